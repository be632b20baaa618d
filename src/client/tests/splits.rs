//! Bytes in any pieces, and bytes of any kind.

use bytes::Bytes;

use super::desk::Desk;
use crate::route::Lot;

const CONNECT: &str = "CONNECT {\"verbose\":true,\"headers\":true,\"no_responders\":true}\r\n";

fn dialogue() -> String {
    let large = "x".repeat(5000);
    format!(
        "{CONNECT}SUB a.* 1\r\nSUB re 2\r\nPUB a.b 3\r\nabc\r\nHPUB a.c re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
         PUB nobody re 0\r\n\r\nPUB a.d 5000\r\n{large}\r\nUNSUB 1 4\r\nPING\r\nPUB a.e 1\r\nx\r\nPUB a.f 1\r\nx\r\n"
    )
}

#[test]
fn any_cut_of_the_input_gives_the_same_output() {
    let text = dialogue();
    let mut whole = Desk::new("");
    let id = whole.connect();
    let expected = whole.ask(id, &text);
    assert_eq!(expected.matches("\r\nMSG a.").count() + expected.matches("\r\nHMSG a.").count(), 4);
    for size in (1..80).chain([997, 2048, 5001]) {
        let mut cut = Desk::new("");
        let id = cut.connect();
        for piece in text.as_bytes().chunks(size) {
            cut.send_bytes(id, Bytes::copy_from_slice(piece));
        }
        assert_eq!(cut.text(id), expected, "pieces of {size}");
    }
}

#[test]
fn garbage_ends_one_client_and_leaves_the_others() {
    let mut lot = Lot::new(5);
    let mut desk = Desk::new("");
    let calm = desk.quiet();
    desk.send(calm, "SUB calm 1\r\n");
    let seed = dialogue().replace(&"x".repeat(5000), "y").into_bytes();
    let mut closed = 0;
    for _ in 0..3000 {
        let mut bytes = seed.clone();
        for _ in 0..=lot.below(4) {
            let at = lot.below(bytes.len() as u64) as usize;
            match lot.below(4) {
                0 => bytes[at] = lot.below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, lot.below(256) as u8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let wild = desk.connect();
        desk.send_bytes(wild, Bytes::from(bytes));
        closed += usize::from(desk.is_closed(wild));
        desk.front.gone(desk.now, crate::ids::ConnId(wild), "");
        desk.text(wild);
        desk.others.clear();
    }
    assert!(closed > 300, "only {closed} of 3000 damaged inputs were refused");
    assert_eq!(desk.ask(calm, "PUB calm 2\r\nok\r\n"), "MSG calm 1 2\r\nok\r\n");
    let totals = desk.front.totals();
    assert_eq!((totals.connections, totals.subscriptions), (1, 1));
    assert_eq!(desk.front.my_interest().len(), 1);
}

#[test]
fn a_client_that_announces_much_and_sends_little_holds_little() {
    let mut desk = Desk::new("max_payload: 8MB");
    let id = desk.quiet();
    desk.send(id, "PUB a 8000000\r\nabc");
    assert_eq!(desk.text(id), "");
    assert!(!desk.is_closed(id));
    desk.front.gone(desk.now, crate::ids::ConnId(id), "EOF");
    assert_eq!(desk.front.totals().connections, 0);
}

#[test]
fn before_connect_nothing_beyond_a_line_is_taken() {
    let mut desk = Desk::new("authorization { user: u, password: p }");
    let id = desk.connect();
    desk.send(id, "CONNECT ");
    for _ in 0..5 {
        desk.send(id, &" ".repeat(1000));
    }
    assert!(desk.text(id).contains("-ERR 'maximum control line exceeded'"));
    assert!(desk.is_closed(id));
}
