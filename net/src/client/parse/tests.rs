use super::*;
use crate::dice::Dice;

/// Parses all that is there. What the peer would do is a list of operations and then, maybe, an error.
fn parse_all(parser: &mut Parser, bytes: &[u8]) -> (Vec<Op>, Option<ParseError>) {
    feed(parser, &[bytes])
}

/// The same with the bytes arriving piece by piece.
fn feed(parser: &mut Parser, pieces: &[&[u8]]) -> (Vec<Op>, Option<ParseError>) {
    let mut ops = Vec::new();
    let mut kept = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match parser.parse(&Bytes::copy_from_slice(&kept)) {
                Ok(Step::Op { op, consumed }) => {
                    assert!(consumed > 0 && consumed <= kept.len());
                    ops.push(op);
                    kept.drain(..consumed);
                }
                Ok(Step::NeedMore { at_least }) => {
                    assert!(at_least > kept.len());
                    break;
                }
                Err(error) => return (ops, Some(error)),
            }
        }
    }
    (ops, None)
}

fn server() -> Parser {
    Parser::new(Role::Server, Limits::default())
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn publish(subject: &str, reply: Option<&str>, headers: Option<&str>, payload: &str) -> Op {
    Op::Pub { subject: bytes(subject), reply: reply.map(bytes), headers: headers.map(bytes), payload: bytes(payload) }
}

fn subscribe(subject: &str, queue: Option<&str>, sid: &str) -> Op {
    Op::Sub { subject: bytes(subject), queue: queue.map(bytes), sid: bytes(sid) }
}

fn unsubscribe(sid: &str, max: Option<u64>) -> Op {
    Op::Unsub { sid: bytes(sid), max }
}

fn malformed(verb: &'static str) -> ParseError {
    ParseError::Malformed { verb, what: "" }
}

/// What nats-server 2.15.1 did with each line, recorded from one: the operations that took effect, then how it ended.
#[rustfmt::skip]
fn recorded() -> Vec<(&'static str, Vec<Op>, Option<ParseError>)> {
    use ParseError::UnknownOperation as Unknown;
    let long = ParseError::PayloadTooLarge { size: 1_048_577, max: 1_048_576 };
    let longest = ParseError::PayloadTooLarge { size: 999_999_999, max: 1_048_576 };
    let hi = || publish("foo", None, None, "hi");
    vec![
        ("PING\n", vec![Op::Ping], None),
        ("ping\r\n", vec![Op::Ping], None),
        ("PING  \r\n", vec![Op::Ping], None),
        ("PINGx\r\n", vec![Op::Ping], None),
        ("PONG\r\nPING\r\n", vec![Op::Pong, Op::Ping], None),
        ("PONGzz\r\nPING\r\n", vec![Op::Pong, Op::Ping], None),
        ("PI NG\r\n", vec![], Some(Unknown)),
        ("PUB foo 2\r\nhi\r\n", vec![hi()], None),
        ("pub\tfoo\t 2 \r\nhi\r\n", vec![hi()], None),
        ("PUB foo 2\nhi\r\n", vec![hi()], None),
        ("PUB foo 02\r\nhi\r\n", vec![hi()], None),
        ("PUB foo  bar 2\r\nhi\r\n", vec![publish("foo", Some("bar"), None, "hi")], None),
        ("PUB foo 0\r\n\r\n", vec![publish("foo", None, None, "")], None),
        ("PUB a..b 2\r\nhi\r\n", vec![publish("a..b", None, None, "hi")], None),
        ("PUB foo 2\r\nhi\n", vec![], Some(Unknown)),
        ("PUB foo 2\r\nhi!\r\n", vec![], Some(Unknown)),
        ("PUB foo bar baz 2\r\nhi\r\n", vec![], Some(malformed("PUB"))),
        ("PUB foo\r\n", vec![], Some(malformed("PUB"))),
        ("PUB foo x\r\n", vec![], Some(malformed("PUB"))),
        ("PUB foo -1\r\n", vec![], Some(malformed("PUB"))),
        ("PUB foo 1234567890\r\n", vec![], Some(malformed("PUB"))),
        ("PUB 2\r\nhi\r\n", vec![], Some(malformed("PUB"))),
        ("PUB foo 1048577\r\n", vec![], Some(long)),
        ("PUB foo 999999999\r\n", vec![], Some(longest)),
        ("HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", vec![publish("foo", None, Some("NATS/1.0\r\n\r\n"), "hi")], None),
        ("HPUB foo r 2 4\r\nabcd\r\n", vec![publish("foo", Some("r"), Some("ab"), "cd")], None),
        ("HPUB foo 0 2\r\nhi\r\n", vec![hi()], None),
        ("HPUB foo 15 14\r\nNATS/1.0\r\n\r\nhi\r\n", vec![], Some(malformed("HPUB"))),
        ("HPUB foo 2\r\nhi\r\n", vec![], Some(malformed("HPUB"))),
        ("HPUB foo x 2\r\nhi\r\n", vec![], Some(malformed("HPUB"))),
        ("HPUB foo 3 x\r\nhi\r\n", vec![], Some(malformed("HPUB"))),
        ("SUB foo\r\n", vec![], Some(malformed("SUB"))),
        ("SUB a b c d\r\n", vec![], Some(malformed("SUB"))),
        ("SUB a.* q 1\r\nPING\r\n", vec![subscribe("a.*", Some("q"), "1"), Op::Ping], None),
        ("SUB foo.>.x 1\r\nPING\r\n", vec![subscribe("foo.>.x", None, "1"), Op::Ping], None),
        ("SUB \nfoo 1\r\nPING\r\n", vec![subscribe("foo", None, "1"), Op::Ping], None),
        ("UNSUB\r\nPING\r\n", vec![], Some(Unknown)),
        ("UNSUB 1 2 3\r\n", vec![], Some(malformed("UNSUB"))),
        ("UNSUB 9 x\r\n", vec![unsubscribe("9", None)], None),
        ("UNSUB 9 1\r\n", vec![unsubscribe("9", Some(1))], None),
        ("UNSUB 77\r\nPING\r\n", vec![unsubscribe("77", None), Op::Ping], None),
        ("UNSUB \r\nPING\r\n", vec![], Some(malformed("UNSUB"))),
        ("BOGUS\r\n", vec![], Some(Unknown)),
        ("\r\n", vec![], Some(Unknown)),
        ("MSG foo 1 2\r\nhi\r\n", vec![], Some(Unknown)),
        ("HMSG foo 1 2\r\nhi\r\n", vec![], Some(Unknown)),
        ("RS+ a b\r\n", vec![], Some(Unknown)),
        ("A+ a\r\n", vec![], Some(Unknown)),
        ("+OK\r\nPING\r\n", vec![Op::Ok, Op::Ping], None),
        ("-ERR 'x'\r\n", vec![Op::Err { text: bytes("'x'") }], None),
        ("INFO {}\r\nPING\r\n", vec![Op::Info { json: bytes("{}") }, Op::Ping], None),
        ("CONNECT{}\r\nPING\r\n", vec![Op::Connect { json: bytes("{}") }, Op::Ping], None),
        ("CONNECT \r\n", vec![Op::Connect { json: bytes("") }], None),
    ]
}

fn same_error(got: Option<ParseError>, expected: Option<ParseError>) -> bool {
    match (got, expected) {
        (Some(ParseError::Malformed { verb: a, .. }), Some(ParseError::Malformed { verb: b, .. })) => a == b,
        (got, expected) => got == expected,
    }
}

#[test]
fn every_line_does_what_the_peer_did() {
    for (text, ops, error) in recorded() {
        let (got, got_error) = parse_all(&mut server(), text.as_bytes());
        assert_eq!(got, ops, "{text:?}");
        assert!(same_error(got_error, error), "{text:?}: {got_error:?} instead of {error:?}");
    }
}

#[test]
fn every_cut_gives_the_same_as_the_whole() {
    for (text, ..) in recorded() {
        let whole = parse_all(&mut server(), text.as_bytes());
        for cut in 1..text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            assert_eq!(feed(&mut server(), &[head, tail]), whole, "{text:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(feed(&mut server(), &single), whole, "{text:?} byte by byte");
    }
}

#[test]
fn the_line_limit_is_exact_and_holds_before_the_line_ends() {
    let fits = format!("SUB {} 1\r\nPING\r\n", "x".repeat(4094));
    assert_eq!(parse_all(&mut server(), fits.as_bytes()).0.len(), 2);
    let exceeds = format!("SUB {} 1\r\nPING\r\n", "x".repeat(4095));
    assert_eq!(parse_all(&mut server(), exceeds.as_bytes()), (vec![], Some(ParseError::ControlLineTooLong)));
    let endless = format!("PUB {}", "x".repeat(4097));
    assert_eq!(parse_all(&mut server(), endless.as_bytes()), (vec![], Some(ParseError::ControlLineTooLong)));
    let blanks = format!("PUB {}", " ".repeat(5000));
    assert_eq!(parse_all(&mut server(), blanks.as_bytes()), (vec![], Some(ParseError::ControlLineTooLong)));
    let junk = format!("PING{}", "x".repeat(5000));
    assert_eq!(parse_all(&mut server(), junk.as_bytes()), (vec![], Some(ParseError::ControlLineTooLong)));
}

#[test]
fn a_line_break_inside_a_published_subject_is_refused() {
    for text in ["PUB a\rb 2\r\nhi\r\n", "PUB \nfoo 2\r\nhi\r\n", "HPUB a\rb 1 2\r\nhi\r\n"] {
        let (ops, error) = parse_all(&mut server(), text.as_bytes());
        assert!(ops.is_empty());
        assert!(matches!(error, Some(ParseError::Malformed { .. })), "{text:?}: {error:?}");
    }
}

#[test]
fn headers_need_to_be_agreed() {
    let mut parser = server();
    parser.set_headers(false);
    let (ops, error) = parse_all(&mut parser, b"PUB a 0\r\n\r\nHPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    assert_eq!(ops.len(), 1);
    assert_eq!(error, Some(ParseError::HeadersNotSupported));
    assert_eq!(ParseError::HeadersNotSupported.to_string(), "message headers not supported");
}

#[test]
fn nothing_but_connect_is_read_while_authentication_is_due() {
    let mut parser = server();
    parser.set_connect_only(true);
    assert_eq!(parse_all(&mut parser, b"P").1, Some(ParseError::AuthorizationViolation));
    let mut parser = server();
    parser.set_connect_only(true);
    assert_eq!(parse_all(&mut parser, b"connect {}\r\n").0.len(), 1);
    parser.set_connect_only(false);
    assert_eq!(parse_all(&mut parser, b"PING\r\n").0, [Op::Ping]);
}

#[test]
fn the_client_end_reads_what_a_server_sends() {
    let text =
        b"INFO {\"a\":1}\r\n+OK\r\nMSG foo 9 2\r\nhi\r\nMSG foo 9 re 0\r\n\r\nHMSG a 7 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
        HMSG a 7 re 12 12\r\nNATS/1.0\r\n\r\n\r\nPING\r\nPONG\r\n-ERR 'Stale Connection'\r\n";
    let mut client = Parser::new(Role::Client, Limits::default());
    let message = |subject: &str, sid: &str, reply: Option<&str>, headers: Option<&str>, payload: &str| Op::Msg {
        subject: bytes(subject),
        sid: bytes(sid),
        reply: reply.map(bytes),
        headers: headers.map(bytes),
        payload: bytes(payload),
    };
    let expected = vec![
        Op::Info { json: bytes("{\"a\":1}") },
        Op::Ok,
        message("foo", "9", None, None, "hi"),
        message("foo", "9", Some("re"), None, ""),
        message("a", "7", None, Some("NATS/1.0\r\n\r\n"), "hi"),
        message("a", "7", Some("re"), Some("NATS/1.0\r\n\r\n"), ""),
        Op::Ping,
        Op::Pong,
        Op::Err { text: bytes("'Stale Connection'") },
    ];
    assert_eq!(parse_all(&mut client, text), (expected.clone(), None));
    let single: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(feed(&mut client, &single), (expected, None));
    assert_eq!(parse_all(&mut client, b"PUB a 0\r\n").1, Some(ParseError::UnknownOperation));
}

#[test]
fn the_payload_is_a_slice_of_the_input() {
    let input = Bytes::from_static(b"PUB a 5\r\nhello\r\n");
    let Ok(Step::Op { op: Op::Pub { payload, .. }, .. }) = server().parse(&input) else { panic!() };
    assert_eq!(payload.as_ptr(), input[9..].as_ptr());
}

#[test]
fn a_large_payload_names_how_much_is_missing() {
    let mut parser = server();
    let line = Bytes::from_static(b"PUB a 100000\r\nx");
    assert_eq!(parser.parse(&line), Ok(Step::NeedMore { at_least: 14 + 100_000 + 2 }));
    assert!(parser.in_payload());
}

#[test]
fn damaged_and_random_input_never_panics_and_is_cut_independent() {
    let mut dice = Dice::new(0x7265_7374);
    let samples = recorded();
    for _ in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..1 + dice.below(3) {
            text.extend_from_slice(dice.pick(&samples).0.as_bytes());
        }
        let text = if dice.below(8) == 0 { dice.bytes(40) } else { dice.damage(&text) };
        let cut = dice.below(text.len() + 1);
        let (head, tail) = text.split_at(cut);
        for role in [Role::Server, Role::Client] {
            let whole = parse_all(&mut Parser::new(role, Limits::default()), &text);
            let split = feed(&mut Parser::new(role, Limits::default()), &[head, tail]);
            assert_eq!(split, whole, "{text:?} cut at {cut}");
        }
    }
}
