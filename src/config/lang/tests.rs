use std::collections::BTreeMap;

use super::super::source::Memory;
use super::*;

/// A tree as one line: `{port=4222 tags=["a" "b"]}`.
fn show(map: &Map) -> String {
    let entries: Vec<String> = map.entries().map(|entry| format!("{}={}", entry.key, show_node(&entry.node))).collect();
    format!("{{{}}}", entries.join(" "))
}

fn show_node(node: &Node) -> String {
    match &node.value {
        Value::Map(map) => show(map),
        Value::List(nodes) => format!("[{}]", nodes.iter().map(show_node).collect::<Vec<_>>().join(" ")),
        Value::Text(text) => format!("{text:?}"),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::Bool(on) => on.to_string(),
        Value::Date(seconds) => format!("@{seconds}"),
    }
}

fn read(text: &str) -> String {
    match read_text(&Memory::default(), text) {
        Ok(map) => show(&map),
        Err(error) => error.to_string(),
    }
}

fn memory(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Memory {
    Memory {
        files: files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect(),
        variables: variables.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
    }
}

fn read_files(files: &[(&str, &str)], variables: &[(&str, &str)]) -> String {
    match read_file(&memory(files, variables), Path::new("main.conf")) {
        Ok(map) => show(&map),
        Err(error) => error.to_string(),
    }
}

#[test]
fn texts_and_their_trees() {
    let cases = [
        ("", "{}"),
        ("port: 4222", "{port=4222}"),
        ("port=4222\nhost = \"::\"", "{port=4222 host=\"::\"}"),
        ("port 4222 # c\n// d\ndebug true", "{port=4222 debug=true}"),
        ("port\n  4222", "{port=4222}"),
        ("a: on, b: Off; c: YES\nd: no", "{a=true b=false c=true d=false}"),
        ("a { b: 1, c { d 2 }\n e [x, y\nz] }", "{a={b=1 c={d=2} e=[\"x\" \"y\" \"z\"]}}"),
        ("a {\n}\nb []\n", "{a={} b=[]}"),
        ("x: 1\nx: {y: 2}", "{x={y=2}}"),
        ("j {a: 1}\nj {b: 2}", "{j={b=2}}"),
        (
            "k: 1k, kb: 1KB, ki: 2Ki, kib: 1kib\nm: 3M, g: 1g, gb: 1Gb, t: 1T",
            "{k=1000 kb=1024 ki=2048 kib=1024 m=3000000 g=1000000000 gb=1073741824 t=1000000000000}",
        ),
        ("n: -3, f: 1.5, nf: -0.25, z: -1k", "{n=-3 f=1.5 nf=-0.25 z=-1000}"),
        ("d: 2016-05-04T18:53:41Z", "{d=@1462388021}"),
        (
            "t: 10s, p: 100%, u: nats-route://host_a:6222, h: 0.0.0.0:4223, v: 1.2.3",
            "{t=\"10s\" p=\"100%\" u=\"nats-route://host_a:6222\" h=\"0.0.0.0:4223\" v=\"1.2.3\"}",
        ),
        ("listen: localhost:-1, a: 127.0.0.1:-1", "{listen=\"localhost:-1\" a=\"127.0.0.1:-1\"}"),
        (r#"s: "a\tb\"c\\ \x41", r: 'a\tb"c'"#, r#"{s="a\tb\"c\\ A" r="a\\tb\"c"}"#),
        ("e: a\\tb", "{e=\"a\\tb\"}"),
        ("pass: 1\\x32", "{pass=\"12\"}"),
        ("b: (\nline 1\n) not yet\n)\nc: 1", "{b=\"\\nline 1\\n) not yet\\n\" c=1}"),
        (
            "{\"port\": 4222, \"cluster\": {\"name\": \"x\"},\n\"routes\": [1, 2]}",
            "{port=4222 cluster={name=\"x\"} routes=[1 2]}",
        ),
        ("port: 1\n}\n", "{port=1}"),
        ("'a b': 1\n\"$c.>\" = 2", "{a b=1 $c.>=2}"),
        (
            "$SYS { users = [ { user: \"admin\", pass: \"s3cr3t!\" } ] }",
            "{$SYS={users=[{user=\"admin\" pass=\"s3cr3t!\"}]}}",
        ),
        ("N: 5\na { b { c: $N } }", "{N=5 a={b={c=5}}}"),
        ("N: 5\na { N: 6\n c: $N }", "{N=5 a={N=6 c=6}}"),
        ("P { publish: x }\nu { p: $P }", "{P={publish=\"x\"} u={p={publish=\"x\"}}}"),
        ("pw: $2a$11$abc.def", "{pw=\"$2a$11$abc.def\"}"),
        ("w: \"$N\"", "{w=\"$N\"}"),
        ("tags: [rg:1, az:1, xr:123, xr:132]", "{tags=[\"rg:1\" \"az:1\" \"xr:123\" \"xr:132\"]}"),
        ("r: [\n  a,\n  b,\n] # end", "{r=[\"a\" \"b\"]}"),
        ("r: [ # one\n a # two\n b // three\n]", "{r=[\"a\" \"b\"]}"),
        ("x: ünï", "{x=\"ünï\"}"),
    ];
    for (text, tree) in cases {
        assert_eq!(read(text), tree, "{text}");
    }
}

#[test]
fn errors_use_the_words_and_lines_of_the_peer() {
    let line = |n: u32, text: &str| format!("Parse error on line {n}: '{text}'");
    let cases = [
        (
            "a: {b: 1 c: 2}",
            line(1, "Expected a map value terminator \",\" or a map terminator \"}\", but got 'c' instead."),
        ),
        (
            "a: 1 b: 2",
            line(1, "Expected a top-level value to end with a new line, comment or EOF, but got 'b' instead."),
        ),
        (
            "a: [x y]",
            line(1, "Expected an array value terminator \",\" or an array terminator \"]\", but got 'y' instead."),
        ),
        ("a: 1\nb: {\n", line(3, "Unexpected EOF processing map.")),
        ("port:\n10", line(2, "Expected value but found new line")),
        ("a: [,]", line(1, "Unexpected array value terminator ','.")),
        ("a: {,b:1}", "{a={,b=1}}".to_string()),
        ("a: {b:,}", line(1, "Unexpected map value terminator \",\".")),
        ("a: {: 1}", line(1, "Unexpected key separator ':'.")),
        (": 1", line(1, "Unexpected key separator ':'")),
        ("a: .5", line(1, "Floats must start with a digit")),
        ("a: -x", line(1, "Expected a digit but got 'x'.")),
        ("a: 1.x", line(1, "Floats must have a digit after the '.', but got 'x' instead.")),
        ("a: 12-3", line(1, "All ISO8601 dates must be in full Zulu form.")),
        ("a: 2016-05-04", line(1, "Expected 'T' in ISO8601 datetime, but found '' instead.")),
        ("a: \"x", line(1, "Unexpected EOF.")),
        ("a: (\nx", line(2, "Unexpected EOF processing block.")),
        ("include [x]", line(1, "Expected include value but found start of an array")),
        ("a: $NOPE", "variable reference for 'NOPE' on line 1 can not be found".to_string()),
        ("a: 12kbb", "expected integer, but got '12kbb'".to_string()),
        ("a: 99999999999999999999", "integer '99999999999999999999' is out of the range".to_string()),
        ("a: 9999999P", "integer '9999999P' is out of the range".to_string()),
        ("a", "config is invalid (:1:1)".to_string()),
        ("a: 2016-13-04T00:00:00Z", "expected Zulu formatted DateTime, but got '2016-13-04T00:00:00Z'".to_string()),
    ];
    for (text, error) in cases {
        assert_eq!(read(text), error, "{text}");
    }
}

#[test]
fn an_include_lands_in_the_block_it_stands_in_and_is_relative_to_its_file() {
    let files = [
        ("main.conf", "include conf/a.conf\ncluster {\n port: 1\n include 'conf/c.conf'\n}\nx: $inner"),
        ("conf/a.conf", "include ./b.conf\ninner: 7"),
        ("conf/b.conf", "port: 4"),
        ("conf/c.conf", "name: c1\nroutes: [\n a,\n b,\n] "),
    ];
    let tree = "{port=4 inner=7 cluster={port=1 name=\"c1\" routes=[\"a\" \"b\"]} x=7}";
    assert_eq!(read_files(&files, &[]), tree);
}

#[test]
fn an_include_may_replace_a_key_and_be_replaced() {
    let files = [("main.conf", "port: 1\nhost: a\ninclude b.conf\nhost: c"), ("b.conf", "port: 2\nhost: b")];
    assert_eq!(read_files(&files, &[]), "{port=2 host=\"c\"}");
}

#[test]
fn a_missing_or_broken_include_names_the_file() {
    let missing = "error parsing include file 'nope.conf', open nope.conf: no such file or directory";
    assert_eq!(read_files(&[("main.conf", "include nope.conf")], &[]), missing);
    let broken = "error parsing include file 'b.conf', Parse error on line 2: 'Expected value but found new line'";
    assert_eq!(read_files(&[("main.conf", "include b.conf"), ("b.conf", "a:\n1")], &[]), broken);
}

#[test]
fn files_that_include_themselves_or_never_end_are_errors() {
    let text = read_files(&[("main.conf", "include ./main.conf")], &[]);
    assert_eq!(text, "error parsing include file './main.conf', the file includes itself");
    let text = read_files(&[("main.conf", "include b.conf"), ("b.conf", "include main.conf")], &[]);
    assert!(text.ends_with("the file includes itself"), "{text}");
    // The same file under ever new names: only the depth stops it.
    let mut files = BTreeMap::new();
    for i in 0..=INCLUDE_DEPTH_MAX {
        files.insert(PathBuf::from(format!("f{i}.conf")), format!("include f{}.conf", i + 1).into_bytes());
    }
    let source = Memory { files, ..Memory::default() };
    let error = read_file(&source, Path::new("f0.conf")).unwrap_err().to_string();
    assert!(error.contains("includes in each other"), "{error}");
}

#[test]
fn environment_variables_are_read_as_values() {
    let variables = [("PORT", "4333"), ("LIST", "[a, b]"), ("NAME", "\"x y\""), ("INNER", "$PORT"), ("LOOP", "$LOOP")];
    let read = |text: &str| read_files(&[("main.conf", text)], &variables);
    let tree = "{a=4333 b=[\"a\" \"b\"] c=\"x y\" d=4333}";
    assert_eq!(read("a: $PORT\nb: $LIST\nc: $NAME\nd: $INNER"), tree);
    let cycle = read("a: $LOOP");
    assert!(cycle.contains("variable reference cycle for 'LOOP'"), "{cycle}");
}

#[test]
fn a_key_that_a_variable_refers_to_is_marked() {
    let map = read_text(&Memory::default(), "N: 5\nM: 6\na: $N").unwrap();
    let used: Vec<bool> = map.entries().map(|entry| entry.used).collect();
    assert_eq!(used, [true, false, false]);
}

#[test]
fn lists_of_lists_of_variables_end_at_the_limit() {
    let mut text = String::from("a0: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n");
    for i in 1..12 {
        let items = vec![format!("$a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: [{items}]\n"));
    }
    assert_eq!(read(&text), format!("the configuration has more than {NODES_MAX} values"));
}

#[test]
fn deep_nesting_is_refused_before_the_stack_is() {
    for open in ["a {", "[", "{"] {
        let text = format!("x: {}", open.repeat(100_000));
        let error = read(&text);
        assert!(error.contains("blocks in each other") || error.contains("Parse error"), "{open}: {error:.80}");
    }
    assert!(read(&"{".repeat(100_000)).contains("blocks in each other"));
}

#[test]
fn every_value_knows_its_file_line_and_column() {
    let files = [("main.conf", "a: 1\n  b = x\ninclude sub.conf"), ("sub.conf", "\nc {\n\td: 1 }")];
    let map = read_file(&memory(&files, &[]), Path::new("main.conf")).unwrap();
    let place = |key: &str| map.get(key).map(|entry| (entry.place.to_string(), entry.node.place.to_string())).unwrap();
    assert_eq!(place("a"), ("main.conf:1:1".into(), "main.conf:1:4".into()));
    assert_eq!(place("b"), ("main.conf:2:3".into(), "main.conf:2:7".into()));
    assert_eq!(place("c"), ("sub.conf:2:1".into(), "sub.conf:2:3".into()));
}

#[test]
fn a_text_that_is_not_utf8_or_has_a_nul_names_the_line() {
    let mut source = Memory::default();
    source.files.insert(PathBuf::from("main.conf"), b"a: 1\nb: \xff\n".to_vec());
    let error = read_file(&source, Path::new("main.conf")).unwrap_err().to_string();
    assert_eq!(error, "Parse error on line 2: 'the text is not UTF-8 here'");
    assert_eq!(read("a: 1\0"), "Parse error on line 1: 'Unexpected NUL byte'");
}

#[test]
fn no_change_of_bytes_makes_the_reader_panic() {
    let seeds = [
        "server_name: \"emea_1\"\nserver_tags: [\"dc:2\", \"ha:1\"]\nlisten: \"0.0.0.0:4223\"\ncluster: {\n name: S\n routes: [\"nats://a:1\"]\n}\n",
        "jetstream {\n store_dir=/d\n max_mem: 2G\n limits { duplicate_window: \"2m\" }\n}\ninclude sub.conf\nd: 2016-05-04T18:53:41Z\n",
        "mappings = {\n \"foo.>\":[\n {destination:\"foo.west.>\", weight: 100%, cluster: \"west\"}\n ]\n}\nb: (\nx\n)\n",
        "A: 1.5\nB { c: $A, d: $HOME, e: 'x', f: -3k, g: 1.2.3.4:5 }\n# c\n// d\n{ x: 1 }\n",
    ];
    let source = memory(&[("sub.conf", "port: 1\n")], &[("HOME", "/root")]);
    let alphabet = b"{}[]()\"'#/:=,;$\\\n\r\t .-0129akKMx%\xc3\xa4\xff\0";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let mut read = 0;
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..1 + draw(6) {
            let at = draw(bytes.len());
            match draw(4) {
                0 => bytes[at] = alphabet[draw(alphabet.len())],
                1 => bytes.insert(at, alphabet[draw(alphabet.len())]),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at + 1),
            }
        }
        let Ok(cursor) = Cursor::new(&bytes, Arc::from("m")) else { continue };
        if Parser::new(&source).document(cursor, Path::new("")).is_ok() {
            read += 1;
        }
    }
    assert!(read > 500, "the changes are too wild to test anything: {read}");
}
