use super::*;

fn words(line: &str) -> Result<Command, UsageError> {
    parse(line.split_whitespace().map(str::to_string))
}

fn flags(line: &str) -> Flags {
    match words(line) {
        Ok(Command::Serve(flags)) => flags,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn one_dash_or_two_with_a_blank_or_an_equals_sign_mean_the_same() {
    for line in ["-p 4333", "--p 4333", "-port 4333", "--port=4333", "-p=4333", "-p 0x10ed"] {
        assert_eq!(flags(line).port, Some(4333), "{line}");
    }
    for line in ["-sd=/d", "-sd /d", "--store_dir /d", "-store_dir=/d"] {
        assert_eq!(flags(line).store_dir, Some(PathBuf::from("/d")), "{line}");
    }
}

#[test]
fn a_switch_takes_a_value_only_after_an_equals_sign() {
    assert_eq!(flags("-js -p 1").jetstream, Some(true));
    assert_eq!(flags("-js=false").jetstream, Some(false));
    assert_eq!(flags("-T=0").log_time, Some(false));
    assert_eq!(words("-js false"), Err(UsageError::Refused("unrecognized command: \"false\"".into())));
    let wrong = UsageError::Flag("invalid boolean value \"maybe\" for -js: parse error".into());
    assert_eq!(words("-js=maybe"), Err(wrong));
}

#[test]
fn the_lines_that_client_suites_start_servers_with_are_read() {
    let f = flags(
        "--store_dir D -p -1 -l LOG -P PID -c CONF --routes nats://a:1 --cluster nats://b:2 --cluster_name C -n N",
    );
    assert_eq!((f.port, f.store_dir.as_deref()), (Some(0), Some("D".as_ref())));
    assert_eq!((f.log_file.as_deref(), f.pid_file.as_deref()), (Some("LOG".as_ref()), Some("PID".as_ref())));
    assert_eq!((f.routes.as_deref(), f.cluster_listen.as_deref()), (Some("nats://a:1"), Some("nats://b:2")));
    assert_eq!((f.cluster_name.as_deref(), f.server_name.as_deref()), (Some("C"), Some("N")));
    let f = flags("-p 4222 -m 8222 -a 127.0.0.1 --user u --pass p -js -sd=D --cluster_listen nats://c:1");
    assert_eq!((f.http_port, f.host.as_deref(), f.user.as_deref()), (Some(8222), Some("127.0.0.1"), Some("u")));
    assert_eq!(f.password, Some(Secret::Plain("p".into())));
}

#[test]
fn combined_log_flags_set_each_of_their_parts() {
    let f = flags("-DVV");
    assert_eq!((f.debug, f.trace, f.trace_verbose), (Some(true), Some(true), Some(true)));
    let f = flags("-DV");
    assert_eq!((f.debug, f.trace, f.trace_verbose), (Some(true), Some(true), None));
    assert_eq!(flags("-DV=false -D").debug, Some(true), "the last one wins");
}

#[test]
fn refusals_use_the_words_of_the_go_flag_package() {
    for (line, text) in [
        ("-foo", "flag provided but not defined: -foo"),
        ("--foo=1", "flag provided but not defined: -foo"),
        ("-p", "flag needs an argument: -p"),
        ("-p abc", "invalid value \"abc\" for flag -p: parse error"),
        ("-p 99999999999999999999", "invalid value \"99999999999999999999\" for flag -p: value out of range"),
        ("-p 70000", "invalid value \"70000\" for flag -p: a port is -1 or 1 to 65535"),
        ("--cores 0", "invalid value \"0\" for flag -cores: must be 1 to 256"),
        ("---p 1", "bad flag syntax: ---p"),
        ("-=1", "bad flag syntax: -=1"),
    ] {
        assert_eq!(words(line), Err(UsageError::Flag(text.into())), "{line}");
    }
}

#[test]
fn a_flag_of_a_missing_capability_is_refused_by_its_long_name() {
    let refused = |long: &str| Err(UsageError::Refused(format!("not supported yet: --{long}")));
    assert_eq!(words("-tls --tlscert a.pem"), refused("tls"));
    assert_eq!(words("--tlscert a.pem -p 1"), refused("tlscert"));
    assert_eq!(words("-s"), refused("syslog"));
    assert_eq!(words("-s -h"), Ok(Command::Help), "help helps all the same");
}

#[test]
fn version_and_help_win_over_everything_else() {
    for line in ["-v", "--version", "version", "VERSION", "-p 1 -v -c nowhere"] {
        assert_eq!(words(line), Ok(Command::Version), "{line}");
    }
    for line in ["-h", "--help", "help"] {
        assert_eq!(words(line), Ok(Command::Help), "{line}");
    }
    assert!(VERSION_LINE.starts_with("nats-server: v2.15.1"));
}

#[test]
fn checking_a_configuration_needs_one() {
    let Ok(Command::TestConfig(flags)) = words("-t -c a.conf") else { panic!("not a check") };
    assert_eq!(flags.config, Some(PathBuf::from("a.conf")));
    let text = "nats-server: must specify [-c, --config] option to check configuration file syntax";
    assert_eq!(words("-t").unwrap_err().to_string(), text);
}

#[test]
fn a_signal_names_a_verb_and_perhaps_a_process() {
    let signal = |line: &str| match words(line) {
        Ok(Command::Signal(request)) => request,
        other => panic!("{line}: {other:?}"),
    };
    let request = signal("--signal ldm=4711");
    assert_eq!(request, SignalRequest { verb: SignalVerb::LameDuck, target: SignalTarget::Pid(4711) });
    assert_eq!(signal("-sl reload").target, SignalTarget::TheOnlyOne);
    assert_eq!(signal("--signal=stop=/run/x.pid").target, SignalTarget::PidFile("/run/x.pid".into()));
    assert_eq!(words("--signal jump=1"), Err(UsageError::Refused("unknown signal \"jump\"".into())));
    let surplus = UsageError::Refused("invalid signal parameters: [\"3\"]".into());
    assert_eq!(words("--signal stop=1=3"), Err(surplus));
}

#[test]
fn subcommands_keep_their_own_words() {
    assert_eq!(
        words("lab stretch --rtt 20ms"),
        Ok(Command::Lab(vec!["stretch".into(), "--rtt".into(), "20ms".into()]))
    );
    assert_eq!(words("check DIR"), Ok(Command::Check(vec!["DIR".into()])));
}

#[test]
fn the_usage_names_every_flag_that_is_taken() {
    for spelling in
        ["config", "addr", "port", "http_port", "server_name", "cores", "pid", "signal", "jetstream", "store_dir"]
    {
        assert!(usage().contains(&format!("--{spelling}")), "{spelling}");
    }
    for spelling in
        ["cluster_listen", "cluster_name", "routes", "user", "auth", "log", "debug", "trace", "version", "help"]
    {
        assert!(usage().contains(&format!("--{spelling}")), "{spelling}");
    }
}
