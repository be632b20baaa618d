use super::*;

fn draft(subject: &str, headers: &str, payload: &str, id: (u16, u16), rollup: Rollup) -> Draft {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Draft { subject: bytes(subject), headers: bytes(headers), payload: bytes(payload), id, rollup }
}

fn batch() -> Bytes {
    let drafts = [
        draft("a.1", "", "one", (0, 0), Rollup::None),
        draft("a.2", "NATS/1.0\r\nNats-Msg-Id: x7\r\n\r\n", "", (23, 2), Rollup::Subject),
        draft("b", "NATS/1.0\r\n\r\n", "three", (0, 0), Rollup::All),
    ];
    Entry::encode_batch(41, 1_000_000_007, &drafts)
}

fn every_kind() -> Vec<Bytes> {
    let config = StreamConfig { name: "S".into(), ..StreamConfig::default() };
    vec![
        batch(),
        Entry::encode_delete(9, true),
        Entry::encode_purge(&Purge { filter: Bytes::from_static(b"a.>"), seq: 3, keep: 4 }),
        Entry::encode_trim(77),
        Entry::encode_config(&config),
    ]
}

#[test]
fn a_batch_reads_back_message_by_message() {
    let body = batch();
    let Ok(Entry::Batch(read)) = Entry::decode(&body) else { panic!("a batch") };
    assert_eq!((read.base_seq, read.time_ns, read.count), (41, 1_000_000_007, 3));
    let glances: Vec<_> = read.glances().collect();
    assert_eq!(glances[1].id, b"x7");
    assert_eq!((glances[1].rollup, glances[2].rollup), (Rollup::Subject, Rollup::All));
    assert_eq!((glances[0].bytes_raw, glances[0].with_headers), (6, false));
    let second = message(&body, 1).unwrap();
    assert_eq!(second.subject, "a.2");
    assert_eq!(second.headers.as_deref(), Some(&b"NATS/1.0\r\nNats-Msg-Id: x7\r\n\r\n"[..]));
    assert_eq!(second.payload, "");
    assert_eq!(message(&body, 0).unwrap().headers, None);
    assert_eq!(message(&body, 3), Err(Damaged("no such message")));
}

#[test]
fn headers_and_payload_of_a_message_are_neighbours() {
    let body = batch();
    let third = message(&body, 2).unwrap();
    let headers = third.headers.unwrap();
    assert_eq!(headers.as_ptr() as usize + headers.len(), third.payload.as_ptr() as usize);
}

#[test]
fn instructions_read_back() {
    assert_eq!(Entry::decode(&Entry::encode_delete(9, true)), Ok(Entry::Delete { seq: 9, erase: true }));
    assert_eq!(Entry::decode(&Entry::encode_delete(9, false)), Ok(Entry::Delete { seq: 9, erase: false }));
    let purge = Purge { filter: Bytes::from_static(b"a.>"), seq: 3, keep: 4 };
    assert_eq!(Entry::decode(&Entry::encode_purge(&purge)), Ok(Entry::Purge(purge)));
    assert_eq!(Entry::decode(&Entry::encode_trim(77)), Ok(Entry::Trim { first_seq: 77 }));
    let config = StreamConfig { name: "S".into(), max_msgs: 5, ..StreamConfig::default() };
    assert_eq!(Entry::decode(&Entry::encode_config(&config)), Ok(Entry::Config(Box::new(config))));
}

#[test]
fn cut_bodies_are_damaged_and_never_panic() {
    for body in every_kind() {
        for len in 0..body.len() {
            assert!(Entry::decode(&body.slice(..len)).is_err(), "{len} of {}", body.len());
            let _ = message(&body.slice(..len), 1);
        }
        let mut longer = body.to_vec();
        longer.push(b' ');
        let longer = Bytes::from(longer);
        assert!(matches!(Entry::decode(&longer), Err(_) | Ok(Entry::Config(_))));
    }
}

#[test]
fn changed_bytes_never_panic_and_never_lead_outside_the_body() {
    for body in every_kind() {
        for at in 0..body.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut other = body.to_vec();
                other[at] = byte;
                let other = Bytes::from(other);
                if let Ok(Entry::Batch(batch)) = Entry::decode(&other) {
                    assert_eq!(batch.glances().count(), batch.count as usize);
                }
                for slot in 0..4 {
                    if let Ok(message) = message(&other, slot) {
                        assert!(message.payload.len() <= other.len());
                    }
                }
            }
        }
    }
}
