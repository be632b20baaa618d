use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Asked {
    offset: i64,
    small: u8,
    subject: String,
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    inner: Inner,
    choice: Choice,
    maybe: Option<Inner>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Inner {
    a: i64,
    b: bool,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    #[default]
    Left,
    #[serde(alias = "rechts")]
    Right,
}

fn read(body: &[u8]) -> Result<Asked, String> {
    all(body).and_then(|doc| doc.decode(Unknown::Refused)).map_err(|fault| fault.placed())
}

#[test]
fn documents_and_fields_are_laid_over_each_other() {
    assert_eq!(read(b""), Ok(Asked::default()));
    assert_eq!(read(b" null {} \n"), Ok(Asked::default()));
    assert_eq!(read(br#"{"offset":1}{"offset":2}"#).unwrap().offset, 2);
    assert_eq!(read(br#"{"offset":1,"Offset":3,"offset":null}"#).unwrap().offset, 3);
    let inner = read(br#"{"inner":{"a":1},"INNER":{"b":true}}"#).unwrap().inner;
    assert_eq!(inner, Inner { a: 1, b: true });
    assert_eq!(read(br#"{"tags":["a"],"tags":["b"]}"#).unwrap().tags, ["b"]);
    assert!(read(br#"{"tags":["a"],"tags":null}"#).unwrap().tags.is_empty());
}

#[test]
fn null_leaves_everything_as_it_is_but_choices() {
    let body = br#"{"offset":null,"small":null,"subject":null,"tags":[null,"x"],"metadata":{"k":null},
        "inner":{"a":null},"maybe":null}"#;
    let read_back = read(body).unwrap();
    assert_eq!(read_back.tags, ["", "x"]);
    assert_eq!(read_back.metadata["k"], "");
    assert_eq!((read_back.offset, read_back.inner, read_back.maybe), (0, Inner::default(), None));
    assert_eq!(read(br#"{"choice":null}"#).unwrap_err(), "can not unmarshal \"null\"");
    assert_eq!(read(br#"{"choice":"up"}"#).unwrap_err(), r#"can not unmarshal "\"up\"""#);
    assert_eq!(read(br#"{"choice":"rechts"}"#).unwrap().choice, Choice::Right);
}

#[test]
fn text_that_is_no_unicode_is_replaced() {
    assert_eq!(read(b"{\"subject\":\"a\xffb\"}").unwrap().subject, "a\u{fffd}b");
    assert_eq!(read(br#"{"subject":"\ud800x"}"#).unwrap().subject, "\u{fffd}x");
    assert_eq!(read(br#"{"subject":"\ud83d\ude00\u0041\n"}"#).unwrap().subject, "\u{1f600}A\n");
    assert_eq!(read(br#"{"subject":"\ud800\u0041"}"#).unwrap().subject, "\u{fffd}A");
}

#[test]
fn complaints_name_the_place_or_the_field() {
    let cases: &[(&[u8], &str)] = &[
        (b"{\"offset\":0} x", "invalid character 'x' looking for beginning of value at offset 14"),
        (b"{\"offset\":0}}", "invalid character '}' looking for beginning of value at offset 13"),
        (b"{\"offset\":0,}", "invalid character '}' looking for beginning of object key string at offset 13"),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string at offset 2"),
        (b"{\"a\" 1}", "invalid character '1' after object key at offset 6"),
        (b"{\"a\":1 2}", "invalid character '2' after object key:value pair at offset 8"),
        (b"[1 2]", "invalid character '2' after array element at offset 4"),
        (b"{\"a\":tru}", "invalid character '}' in literal true (expecting 'e') at offset 9"),
        (b"{\"a\":-}", "invalid character '}' in numeric literal at offset 7"),
        (b"{\"a\":\"\x01\"}", "invalid character '\\x01' in string at offset 7"),
        (b"{\"a\":\"\\q\"}", "invalid character 'q' in string escape code at offset 8"),
        (b"{", "unexpected EOF"),
        (b"{\"x\":1}", "json: unknown field \"x\""),
        (b"{\"offset\":1.0}", "json: cannot unmarshal number 1.0 into Go struct field Asked.offset of type int64"),
        (b"{\"small\":256}", "json: cannot unmarshal number 256 into Go struct field Asked.small of type uint8"),
        (b"{\"offset\":\"a\"}", "json: cannot unmarshal string into Go struct field Asked.offset of type int64"),
        (b"[]", "json: cannot unmarshal array into Go value of type server.Asked"),
    ];
    for (body, complaint) in cases {
        assert_eq!(read(body).unwrap_err(), *complaint, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn one_document_is_one() {
    assert!(one(b" {} ").is_ok());
    assert_eq!(one(b"{} {").unwrap_err().to_string(), "invalid character '{' after top-level value");
    assert_eq!(one(b"").unwrap_err().to_string(), "unexpected end of JSON input");
    let skipped: Asked = one(br#"{"x":1,"offset":4}"#).unwrap().decode(Unknown::Skipped).unwrap();
    assert_eq!(skipped.offset, 4);
}

#[test]
fn no_bytes_make_it_panic_or_overflow() {
    let seeds: &[&[u8]] =
        &[br#"{"a":[1,-2.5e+3,"\ud83d\ude00\\",true,null],"b":{"c":{}}} []"#, b"{\"a\":\"\xc3\x28\"}"];
    for seed in seeds {
        for end in 0..=seed.len() {
            let _ = all(&seed[..end]);
            for byte in [0u8, b'"', b'\\', b'{', b'}', b'u', 0xff] {
                let mut bent = seed.to_vec();
                if let Some(place) = bent.get_mut(end) {
                    *place = byte;
                }
                let _ = all(&bent);
            }
        }
    }
    assert!(all(&b"[".repeat(100_000)).is_err());
    assert!(all(&b"{\"a\":".repeat(100_000)).is_err());
}
