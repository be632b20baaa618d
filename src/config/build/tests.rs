use std::time::Duration;

use super::super::options::*;
use super::super::source::Memory;
use super::*;

fn load_with(text: &str, flags: Flags) -> Result<Config, String> {
    let mut source = Memory::default();
    source.files.insert(PathBuf::from("x.conf"), text.as_bytes().to_vec());
    let flags = Flags { config: Some(PathBuf::from("x.conf")), ..flags };
    load(&source, &flags).map_err(|error| error.to_string())
}

fn config(text: &str) -> Config {
    load_with(text, Flags::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    load_with(text, Flags::default()).expect_err(text)
}

fn notes(config: &Config) -> Vec<&str> {
    config.notes.iter().map(|note| note.text.as_str()).collect()
}

#[test]
fn without_a_file_and_flags_there_are_the_defaults() {
    assert_eq!(load(&Memory::default(), &Flags::default()), Ok(Config::default()));
}

#[test]
fn a_server_of_a_stretched_cluster_is_read_whole() {
    let mut source = Memory::default();
    let main = r#"
        server_name: "emea_1"
        server_tags: ["region:emea-west", "unique:emea-1", "dc:2", "ha:1"]
        listen: "0.0.0.0:4223"
        http_port: 8223
        http_base_path: "/nats/dashboard"
        cluster: {
            name: STRETCH
            listen: 0.0.0.0:4243
            routes: ["nats://127.0.0.1:4240", "nats://127.0.0.1:4241"]
        }
        jetstream: {
            unique_tag="unique:"
            domain=hub
            store="./js_emea_1"
        }
        include ./accounts.conf
    "#;
    let accounts = "accounts {\n SYS: {users: [{user: admin, password: admin}]},\n ACC1: {users: [{user: acc1, \
                    password: password}], jetstream: enabled}\n}\nsystem_account: SYS";
    source.files.insert(PathBuf::from("conf/main.conf"), main.into());
    source.files.insert(PathBuf::from("conf/accounts.conf"), accounts.into());
    let flags = Flags { config: Some(PathBuf::from("conf/main.conf")), ..Flags::default() };
    let config = load(&source, &flags).unwrap();

    assert_eq!(config.server_name.as_deref(), Some("emea_1"));
    assert_eq!(config.server_tags, ["region:emea-west", "unique:emea-1", "dc:2", "ha:1"]);
    assert_eq!(config.listen, HostPort { host: "0.0.0.0".into(), port: 4223 });
    assert_eq!(config.http, Some(HostPort { host: "0.0.0.0".into(), port: 8223 }));
    assert_eq!(config.http_base_path, "/nats/dashboard");
    let cluster = config.cluster.as_ref().unwrap();
    assert_eq!((cluster.name.as_deref(), cluster.listen.port), (Some("STRETCH"), 4243));
    assert_eq!(cluster.routes.iter().map(|route| route.port).collect::<Vec<_>>(), [4240, 4241]);
    let jetstream = config.jetstream.as_ref().unwrap();
    assert_eq!(jetstream.store_dir, PathBuf::from("./js_emea_1"));
    assert_eq!((jetstream.domain.as_deref(), jetstream.unique_tag.as_deref()), (Some("hub"), Some("unique:")));
    assert_eq!(config.system_account.as_deref(), Some("SYS"));
    assert_eq!(config.account_names(), ["$G", "SYS", "ACC1"]);
    assert!(config.account_jetstream("ACC1").is_some());
    assert!(config.account_jetstream("SYS").is_none());
    assert!(config.account_jetstream("$G").is_none());
    let users: Vec<_> = config.auth.users.iter().map(|user| (user.name.as_str(), user.account.as_str())).collect();
    assert_eq!(users, [("admin", "SYS"), ("acc1", "ACC1")]);
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn the_global_account_has_jetstream_while_it_is_the_only_one() {
    assert!(config("jetstream: true").account_jetstream("$G").is_some());
    let text = "jetstream: true\naccounts { $SYS { users [{user: a, pass: b}] } }";
    assert!(config(text).account_jetstream("$G").is_some());
    assert!(config("jetstream: true\naccounts { A {} }").account_jetstream("$G").is_none());
    assert!(config("port: 1").account_jetstream("$G").is_none());
}

#[test]
fn ports_follow_the_peer() {
    assert_eq!(config("port: -1").listen.port, 0);
    assert_eq!(config("port: 0").listen.port, 4222);
    assert_eq!(config("listen: 4333").listen, HostPort { host: "0.0.0.0".into(), port: 4333 });
    assert_eq!(config("listen: \"[::1]:4333\"").listen, HostPort { host: "::1".into(), port: 4333 });
    assert_eq!(config("net: 127.0.0.1\nhttp: 8222").http.unwrap().host, "127.0.0.1");
    assert_eq!(config("http: \"127.0.0.1:-1\"").http, Some(HostPort { host: "127.0.0.1".into(), port: 0 }));
    assert_eq!(config("http_port: 0").http, None);
}

#[test]
fn the_digest_is_of_every_text_that_was_read() {
    let digest = |main: &str, included: &str| {
        let mut source = Memory::default();
        source.files.insert(PathBuf::from("x.conf"), main.as_bytes().to_vec());
        source.files.insert(PathBuf::from("y.conf"), included.as_bytes().to_vec());
        load(&source, &Flags { config: Some(PathBuf::from("x.conf")), ..Flags::default() }).unwrap().digest
    };
    let first = digest("include y.conf", "port: 1");
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    assert_eq!(first, digest("include y.conf", "port: 1"));
    assert_ne!(first, digest("include y.conf", "port: 2"));
    assert_eq!(Config::default().digest, "");
}

#[test]
fn an_empty_text_says_nothing_but_opens_no_door() {
    let c = config(
        "server_name: \"\"\nhost: \"\"\nlog_file: ''\npid_file: \"\"\nclient_advertise: \"\"\nno_auth_user: \"\"",
    );
    assert_eq!(c, Config { file: Some("x.conf".into()), digest: c.digest.clone(), ..Config::default() });
    let nothing = || Some(PathBuf::new());
    let flags = Flags { pid_file: nothing(), log_file: nothing(), ports_file_dir: nothing(), ..Flags::default() };
    let c = load_with("pid_file: p\nlog_file: l\nports_file_dir: d", flags).unwrap();
    assert_eq!((c.pid_file, c.log.file, c.ports_file_dir), (None, None, None));
    for door in ["authorization {token: \"\"}", "authorization {users [{user: \"\", password: x}]}"] {
        assert!(refusal(door).contains("expected some text"), "{door}");
    }
}

#[test]
fn limits_and_times_are_read() {
    let c = config(
        "max_payload: 2MB\nmax_control_line: 8KB\nmax_pending: 10MB\nmax_connections: 100\nmax_subs: 0\nmax_sub_tokens: 16\n\
         write_deadline: \"3s\"\nping_interval: \"20s\"\nping_max: 3\nlame_duck_duration: \"30s\"\nlame_duck_grace_period: \"5s\"\n\
         no_header_support: true\ndisable_sublist_cache: true",
    );
    assert_eq!((c.limits.payload_bytes_max, c.limits.control_line_bytes_max), (2 << 20, 8 << 10));
    assert_eq!((c.limits.pending_bytes_max, c.limits.connections_max), (10 << 20, Some(100)));
    assert_eq!((c.limits.subscriptions_max, c.limits.sub_tokens_max), (None, Some(16)));
    assert_eq!((c.limits.write_deadline, c.limits.ping_interval), (Duration::from_secs(3), Duration::from_secs(20)));
    assert_eq!((c.limits.pings_out_max, c.limits.headers, c.limits.sublist_cache), (3, false, false));
    assert_eq!(c.lame_duck.duration, Duration::from_secs(30));
    assert_eq!(config("max_connections: -1").limits.connections_max, None);
    assert_eq!(config("max_conn: 0").limits.connections_max, None);
}

#[test]
fn a_bare_number_for_a_time_counts_seconds_and_is_remarked_on() {
    let config = config("ping_interval: 2");
    assert_eq!(config.limits.ping_interval, Duration::from_secs(2));
    assert_eq!(notes(&config), ["x.conf:1: ping_interval should be converted to a duration (\"2s\")"]);
}

#[test]
fn users_carry_their_permissions_and_passwords() {
    let c = config(
        "authorization {\n default_permissions { publish: \"a.>\", subscribe { deny: [b, \"c q\"] } }\n users [\n {user: plain, \
         password: \"p: w\", permissions { allow_responses: {max: 5, expires: \"1m\"} }}\n {username: hash, pass: $2a$11$abc}\n ]\n timeout: 0.5\n}",
    );
    let [plain, hash] = &c.auth.users[..] else { panic!("{:?}", c.auth.users) };
    assert_eq!((&plain.password, plain.account.as_str()), (&Secret::Plain("p: w".into()), "$G"));
    assert_eq!(hash.password, Secret::Bcrypt("$2a$11$abc".into()));
    let own = plain.permissions.as_ref().unwrap();
    assert_eq!(own.publish.allow, Some(vec![]), "who may answer may publish nothing else");
    let rule = ResponseRule { messages_max: Some(5), expires: Some(Duration::from_secs(60)) };
    assert_eq!(own.responses, Some(rule));
    let default = hash.permissions.as_ref().unwrap();
    assert_eq!(default.publish.allow, Some(vec!["a.>".to_string()]));
    assert_eq!(default.subscribe, SubjectRules { allow: None, deny: vec!["b".into(), "c q".into()] });
    assert_eq!(c.auth.timeout, Duration::from_millis(500));
}

#[test]
fn a_single_user_becomes_a_user_of_the_global_account() {
    let c = config("authorization {user: a, password: b}");
    assert_eq!((c.auth.users[0].name.as_str(), c.auth.users[0].account.as_str()), ("a", "$G"));
    let c = config("authorization {token: s3cr3t}");
    assert_eq!(c.auth.token, Some(Secret::Plain("s3cr3t".into())));
    assert!(c.auth.required() && !config("port: 1").auth.required());
    assert!(!format!("{c:?}").contains("s3cr3t"));
}

#[test]
fn account_limits_and_jetstream_limits_are_read() {
    let c = config(
        "jetstream: enabled\naccounts {\n A {\n jetstream {max_mem: 1MB, max_file: 1GB, max_streams: 5, max_consumers: -1, \
         max_ack_pending: 7, max_bytes_required: true}\n limits {max_conn: 2, max_subs: -1, max_payload: 1KB}\n }\n}",
    );
    let limits = c.account_jetstream("A").unwrap();
    assert_eq!((limits.memory_bytes_max, limits.file_bytes_max), (Some(1 << 20), Some(1 << 30)));
    assert_eq!((limits.streams_max, limits.consumers_max, limits.ack_pending_max), (Some(5), None, Some(7)));
    assert!(limits.bytes_required);
    let limits = &c.account("A").unwrap().limits;
    assert_eq!((limits.connections_max, limits.subscriptions_max), (Some(2), None));
    assert_eq!(limits.payload_bytes_max, Some(1024));
}

#[test]
fn a_capability_that_does_not_exist_is_named_with_its_line() {
    for (text, path, line) in [
        ("port: 1\nleafnodes: {\n port: 7424\n}", "leafnodes", 2),
        ("gateway { name: x }", "gateway", 1),
        ("mappings = { \"foo.>\": [ {destination: \"x.>\", weight: 100%} ] }", "mappings", 1),
        ("tls { cert_file: x }", "tls", 1),
        ("websocket { port: 1 }", "websocket", 1),
        ("mqtt {}", "mqtt", 1),
        ("operator: x", "operator", 1),
        ("resolver: MEMORY", "resolver", 1),
        ("trusted_keys: [a]", "trusted_keys", 1),
        ("authorization { auth_callout {} }", "authorization.auth_callout", 1),
        ("authorization { users [ {nkey: UABC} ] }", "users.nkey", 1),
        ("accounts { A { exports [] } }", "accounts.A.exports", 1),
        ("accounts { A {\n imports [] } }", "accounts.A.imports", 2),
        ("jetstream { key: x }", "jetstream.key", 1),
        ("cluster { listen: 1, tls {} }", "cluster.tls", 1),
    ] {
        assert_eq!(refusal(text), format!("not supported yet: {path} (x.conf:{line})"), "{text}");
    }
}

#[test]
fn a_capability_that_is_switched_off_asks_for_nothing() {
    assert_eq!(config("proxy_protocol: false\nsyslog: false\nport: 5").listen.port, 5);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (text, error) in [
        ("jetsteam: {}", "unknown field \"jetsteam\" (x.conf:1), did you mean \"jetstream\"?"),
        ("a: b", "unknown field \"a\" (x.conf:1)"),
        ("cluster {\n rotues: []\n}", "unknown field \"rotues\" (x.conf:2), did you mean \"routes\"?"),
        ("jetstream { domian: x }", "unknown field \"domian\" (x.conf:1), did you mean \"domain\"?"),
        ("accounts { A { user: [] } }", "unknown field \"user\" (x.conf:1), did you mean \"users\"?"),
        (
            "authorization { users [{user: a, password: b, permissions: {pubb: x}}] }",
            "unknown field \"pubb\" (x.conf:1), did you mean \"pub\"?",
        ),
        ("trestle { core: 1 }", "unknown field \"core\" (x.conf:1), did you mean \"cores\"?"),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
}

#[test]
fn a_key_that_variables_refer_to_may_have_any_name() {
    assert_eq!(config("MY_PORT: 4333\nport: $MY_PORT").listen.port, 4333);
    let text = "accounts { P { publish: \"x.>\" }\n A { users [{user: a, pass: b, permissions: $P}] } }";
    assert_eq!(config(text).accounts.len(), 1);
}

#[test]
fn wrong_types_and_values_say_where_and_what_was_expected() {
    for (text, error) in [
        ("port: \"x\"", "x.conf:1:7: port: expected a whole number, found the text \"x\""),
        ("debug: 1", "x.conf:1:8: debug: expected true or false, found the number 1"),
        ("server_name: 5", "x.conf:1:14: server_name: expected text (put it in quotes), found the number 5"),
        ("port: 70000", "x.conf:1:7: port: expected a whole number from -1 to 65535, found the number 70000"),
        ("ping_interval: \"x\"", "x.conf:1:16: error parsing ping_interval: invalid duration \"x\""),
        ("http: abc", "x.conf:1:7: could not parse address string \"abc\""),
        ("listen: 1:2:3", "x.conf:1:9: could not parse address string \"1:2:3\""),
        ("server_tags: [1]", "x.conf:1:15: server_tags: expected text, found the number 1"),
        ("max_sub_tokens: 0", "x.conf:1:17: max_sub_tokens: expected a whole number from 1 to 255, found the number 0"),
        ("jetstream: maybe", "x.conf:1:12: Expected 'enabled' or 'disabled' for string value, got 'maybe'"),
        ("lame_duck_duration: \"1s\"", "x.conf:1:1: invalid lame_duck_duration of 1s, minimum is 30 seconds"),
        (
            "trestle { segment_bytes: 3MB }",
            "x.conf:1:26: segment_bytes: expected a power of two from 1MB to 1GB, found the number 3145728",
        ),
        ("authorization {users [{user: a}, {password: b}]}", "x.conf:1:34: User entry requires a user"),
        ("authorization {permissions {publish: \"a b\"}}", "x.conf:1:38: subject \"a b\" is not a valid subject"),
        (
            "cluster {listen: 1, routes: [\"x\"]}",
            "x.conf:1:30: error parsing route url [\"x\"]: expected nats://host:port",
        ),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
}

#[test]
fn checks_across_blocks_use_the_words_of_the_peer() {
    for (text, error) in [
        ("jetstream: enabled\ncluster {name: x, port: -1}", "jetstream cluster requires `server_name` to be set"),
        (
            "jetstream: enabled\nserver_name: a\ncluster {port: -1}",
            "jetstream cluster requires `cluster.name` to be set",
        ),
        ("system_account: NOPE", "error resolving system account: account missing"),
        ("no_auth_user: x", "no_auth_user: \"x\" present, but users/nkeys are not defined"),
        (
            "accounts { A { users [{user: a, password: a}]} }\nno_auth_user: b",
            "no_auth_user: \"b\" not present as user or nkey in authorization block or account configuration",
        ),
        (
            "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"40s\"",
            "lame duck grace period (40s) should be strictly lower than lame duck duration (30s)",
        ),
        ("max_payload: 10MB\nmax_pending: 1MB", "max_payload (10485760) cannot be higher than max_pending (1048576)"),
        ("server_name: \"a b\"", "x.conf:1:1: server name cannot contain spaces"),
        ("cluster {port: 1, name: \"a b\"}", "x.conf:1:19: cluster name cannot contain spaces"),
        ("jetstream: { domain: \"a.b\" }", "invalid domain name: may not contain ., * or >"),
        ("accounts { $G {} }", "x.conf:1:12: \"$G\" is a Reserved Account"),
        ("authorization {user: a, password: b, token: c}", "x.conf:1:1: Cannot have a user/pass and token"),
        (
            "accounts { A { users [{user: a, password: a}, {user: a, password: b}]}}",
            "x.conf:1:16: Duplicate user \"a\" detected",
        ),
        ("store_dir: a\njetstream {store_dir: b}", "x.conf:2:12: Duplicate 'store_dir' configuration"),
        (
            "jetstream: true\nsystem_account: S\naccounts { S { jetstream: true } }",
            "jetstream can not be enabled on the system account",
        ),
        ("cluster {port: 1, authorization {token: x}}", "x.conf:1:19: Cluster authorization does not support tokens"),
    ] {
        let found = refusal(text);
        let warned = found.lines().last().unwrap_or_default();
        assert_eq!(warned, error, "{text}");
    }
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let text = "prot: 1\nleafnodes {}\nport: x\nserver_name: \"a b\"";
    let lines = refusal(text);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("unknown field") && lines[1].starts_with("not supported yet"));
    assert!(lines[2].starts_with("x.conf:3:7: port") && lines[3] == "x.conf:4:1: server name cannot contain spaces");
}

#[test]
fn directives_without_effect_are_remarked_on() {
    let c = config(
        "cluster {port: 1, pool_size: 5, compression: s2_fast}\njetstream {sync_interval: always}\nserver_name: a\n\
                    cluster {port: 1, name: c, pool_size: 5, compression: s2_fast}",
    );
    let notes = notes(&c);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes.iter().all(|note| note.contains("has no effect: ")), "{notes:?}");
    let c = config("cluster {name: c}");
    assert_eq!(c.cluster, None);
    assert_eq!(notes_len(&c), 1);
}

fn notes_len(config: &Config) -> usize {
    config.notes.len()
}

#[test]
fn flags_beat_the_file() {
    let Ok(crate::args::Command::Serve(flags)) = crate::args::parse(
        "-p 4444 -a 127.0.0.1 -m -1 -n flag -js=false -sd /flag -D --user u --pass p --cluster nats://cu:cp@0.0.0.0:-1 \
         --routes nats://a:1,nats://b:2,nats://a:1 --cluster_name fc -l log -P pid --cores 2"
            .split_whitespace()
            .map(str::to_string),
    ) else {
        panic!("no flags")
    };
    let text = "port: 1\nserver_name: file\njetstream {store_dir: /file}\ncluster {name: c, port: 5, routes: [\"nats://c:3\"]}";
    let c = load_with(text, flags).unwrap();
    assert_eq!(c.listen, HostPort { host: "127.0.0.1".into(), port: 4444 });
    assert_eq!(c.http, Some(HostPort { host: "127.0.0.1".into(), port: 0 }));
    assert_eq!((c.server_name.as_deref(), c.jetstream.is_none()), (Some("flag"), true));
    assert_eq!((c.log.debug, c.log.file.as_deref()), (true, Some(Path::new("log"))));
    assert_eq!((c.auth.users[0].name.as_str(), c.trestle.soft.cores), ("u", Some(2)));
    let cluster = c.cluster.unwrap();
    assert_eq!((cluster.listen.port, cluster.name.as_deref(), cluster.user.as_deref()), (0, Some("fc"), Some("cu")));
    assert_eq!(cluster.routes.iter().map(|r| r.to_string()).collect::<Vec<_>>(), ["a:1", "b:2"]);
}

#[test]
fn a_data_directory_on_the_command_line_does_not_switch_jetstream_on() {
    let flags = Flags { store_dir: Some("d".into()), ..Flags::default() };
    assert_eq!(load(&Memory::default(), &flags).unwrap().jetstream, None);
    let flags = Flags { jetstream: Some(true), ..flags };
    assert_eq!(load(&Memory::default(), &flags).unwrap().jetstream.unwrap().store_dir, PathBuf::from("d"));
}

#[test]
fn cluster_flags_are_checked_as_the_peer_does() {
    let with = |flags: Flags| load(&Memory::default(), &flags).map(|c| c.cluster).map_err(|error| error.to_string());
    let routes = Flags { routes: Some("nats://a:1".into()), ..Flags::default() };
    assert_eq!(with(routes).unwrap_err(), "solicited routes require cluster capabilities, e.g. --cluster");
    let listen = |url: &str| with(Flags { cluster_listen: Some(url.into()), ..Flags::default() });
    assert_eq!(listen("nats://0.0.0.0:6222").unwrap().unwrap().listen.port, 6222);
    assert_eq!(listen("nats://:6222").unwrap().unwrap().listen.host, "0.0.0.0");
    assert_eq!(listen("nats://u@h:1").unwrap_err(), "expected cluster password to be set");
    assert_eq!(listen("").unwrap(), None);
}

#[test]
fn the_same_keys_work_as_toml() {
    let mut source = Memory::default();
    let text = "server_name = \"a\"\nport = 4333\nmax_payload = \"2MB\"\n[jetstream]\nstore_dir = \"d\"\nmax_file = \"1G\"\n\
                [[authorization.users]]\nuser = \"u\"\npassword = \"p\"\n";
    source.files.insert(PathBuf::from("x.toml"), text.into());
    let flags = Flags { config: Some(PathBuf::from("x.toml")), ..Flags::default() };
    let config = load(&source, &flags).unwrap();
    assert_eq!((config.listen.port, config.limits.payload_bytes_max), (4333, 2 << 20));
    assert_eq!(config.jetstream.unwrap().file_bytes_max, Some(1 << 30));
    assert_eq!(config.auth.users[0].name, "u");
    source.files.insert(PathBuf::from("x.toml"), "port = 1\n\n[gateway]\nname = \"x\"\n".into());
    let error = load(&source, &flags).unwrap_err().to_string();
    assert_eq!(error, "not supported yet: gateway (x.toml:3)");
}

#[test]
fn a_missing_file_is_named() {
    let flags = Flags { config: Some(PathBuf::from("nope.conf")), ..Flags::default() };
    let error = load(&Memory::default(), &flags).unwrap_err().to_string();
    assert_eq!(error, "open nope.conf: no such file or directory");
}

/// `configs/all-options.conf` with the lines of those markers opened.
fn all_options(markers: &[&str]) -> String {
    let text = include_str!("../../../configs/all-options.conf");
    let open = |line: &str| {
        let marker = line.split(' ').next().unwrap_or_default();
        if markers.contains(&marker) { line[marker.len()..].to_string() } else { format!("# {line}") }
    };
    text.lines().map(open).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shown_defaults_are_the_defaults() {
    // A cluster without an address is none, and its defaults could not be compared.
    let text = all_options(&["#"]);
    let clustered =
        text.replace("cluster {", "cluster {\n listen: \"0.0.0.0:-1\"").replace("enabled: true", "enabled: false");
    let alone = config(&text);
    assert_eq!(alone.notes.len(), 1, "{:?}", alone.notes);
    let expected = Config { jetstream: Some(JetStream::default()), ..Config::default() };
    assert_eq!(Config { file: None, digest: String::new(), notes: Vec::new(), ..alone }, expected);
    assert_eq!(config(&clustered).cluster, Some(Cluster::default()));
}

#[test]
fn every_option_shown_is_read() {
    let text = all_options(&["#", "#="]);
    let config = config(&format!("{text}\nserver_name: a"));
    assert_eq!(config.auth.users.len(), 4);
    let cluster = config.cluster.as_ref().unwrap();
    assert_eq!((cluster.routes.len(), cluster.user.as_deref()), (2, Some("route_user")));
    assert_eq!(config.jetstream.as_ref().unwrap().limits.ha_assets_max, Some(2000));
    assert_eq!((config.trestle.hard.shards, config.trestle.soft.cores), (Some(2), Some(2)));
    assert!(config.notes.iter().all(|note| note.text.contains("has no effect")), "{:?}", config.notes);
}

#[test]
fn every_key_that_is_read_is_shown() {
    let text = include_str!("../../../configs/all-options.conf");
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for key in top::KNOWN.iter().chain(cluster::KNOWN).chain(jetstream::KNOWN) {
        assert!(words.contains(key), "{key} is not in configs/all-options.conf");
    }
}

/// A seeded xorshift: the same changes on every run.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    }
}

#[test]
fn no_change_of_bytes_makes_the_checks_panic() {
    let conf = all_options(&["#", "#="]);
    let toml = "server_name = \"a\"\nport = 4333\nserver_tags = [\"x\", \"y\"]\nping_interval = \"2s\"\n[jetstream]\nmax_file = \"1G\"\n\
                [cluster]\nname = \"c\"\nroutes = [\"nats://u:p%40@h:1\"]\n[[authorization.users]]\nuser = \"u\"\npassword = \"p\"\n";
    let mut draw = dice(0x243f_6a88_85a3_08d3);
    let alphabet = b"{}[]()\"'#/:=,;$\\\n .-0129kMx%@\xc3\xff";
    for round in 0..4_000 {
        let (name, seed) = if round % 2 == 0 { ("x.conf", conf.as_str()) } else { ("x.toml", toml) };
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..1 + draw(4) {
            let at = draw(bytes.len());
            match draw(3) {
                0 => bytes[at] = alphabet[draw(alphabet.len())],
                1 => bytes.insert(at, alphabet[draw(alphabet.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        let mut source = Memory::default();
        source.files.insert(PathBuf::from(name), bytes);
        let flags = Flags { config: Some(PathBuf::from(name)), ..Flags::default() };
        if let Err(error) = load(&source, &flags) {
            assert!(!error.to_string().is_empty(), "a refusal without a reason");
        }
    }
}

#[test]
fn a_value_of_any_kind_under_any_key_is_read_or_refused() {
    let values = [
        "1",
        "-1",
        "1.5",
        "true",
        "x",
        "\"\"",
        "\"1:2\"",
        "[]",
        "[1, {}]",
        "{}",
        "{a: {b: 1}}",
        "9223372036854775807",
        "-9223372036854775807",
        "2016-05-04T18:53:41Z",
        "[[]]",
        "\"\u{e4}\"",
    ];
    for value in values {
        for key in top::KNOWN.iter().chain(top::UNSUPPORTED) {
            let _ = load_with(&format!("{key}: {value}"), Flags::default());
        }
        for (block, keys) in [("cluster", cluster::KNOWN), ("jetstream", jetstream::KNOWN)] {
            for key in keys {
                let _ = load_with(&format!("{block} {{ {key}: {value} }}"), Flags::default());
            }
        }
        for key in ["users", "default_permissions", "jetstream", "limits"] {
            let _ = load_with(&format!("accounts {{ A {{ {key}: {value} }} }}"), Flags::default());
        }
        for key in ["user", "password", "token", "timeout", "users", "permissions"] {
            let _ = load_with(&format!("authorization {{ {key}: {value} }}"), Flags::default());
        }
    }
    let accepted = load_with("ping_max: 9223372036854775807", Flags::default());
    assert!(accepted.is_err(), "a number that fits no field is refused");
}
