//! Several servers that are a cluster.

use std::path::Path;
use std::time::Duration;

use super::{Client, PATIENCE, Scratch, Server, free_ports, text, wait_for};

/// Accounts as an operator would have them: one for applications, one for the system.
pub const ACCOUNTS: &str = r#"
accounts {
  APP { jetstream: enabled, users: [ { user: app, password: app } ] }
  SYS { users: [ { user: sys, password: sys } ] }
}
system_account: SYS
no_auth_user: app
"#;

/// What streams may reserve: the default is a share of the disk's free space, and tests must not depend on the machine.
pub const FILE_STORE: &str = "max_file_store: 10GB,";

pub struct Cluster {
    pub servers: Vec<Server>,
    pub routes: Vec<u16>,
    // Last: servers that are dropped by a failing test show their logs, which lie in it.
    pub dir: Scratch,
}

/// The words of one server: its number, its port for routes, and those of the others.
pub fn conf(name: &str, n: usize, own: u16, routes: &[u16], more: &str) -> String {
    let urls: Vec<String> = routes.iter().map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).collect();
    format!(
        "listen: \"127.0.0.1:-1\"\nserver_name: {name}{n}\njetstream {{ store_dir: \"store-{name}{n}\" }}\n\
         cluster {{ name: {name}, listen: \"127.0.0.1:{own}\", routes: [{}]\n\
         authorization {{ user: route, password: route }} }}\n{more}\n{ACCOUNTS}",
        urls.join(", ")
    )
}

impl Cluster {
    /// Starts `size` servers named NAME1, NAME2 ... and waits until JetStream has a leader.
    pub fn start(name: &str, size: usize, more: &str) -> Cluster {
        Cluster::of(name, &vec!["1"; size], more, &[])
    }

    /// The same, each server with so many cores, and with these flags.
    pub fn of(name: &str, cores: &[&str], more: &str, flags: &[&str]) -> Cluster {
        let dir = Scratch::new(name);
        let stores = dir.0.clone();
        Cluster::start_in(dir, name, cores, more, (&stores, &[FILE_STORE]), flags)
    }

    /// The same with small segments, the stores in a directory of the caller's, which outlives the servers, and `js` in
    /// the block for JetStream.
    pub fn start_on(name: &str, size: usize, stores: &Path, js: &str) -> Cluster {
        Cluster::start_each_on(name, stores, &vec![js; size])
    }

    /// The same with words of its own for each server.
    pub fn start_each_on(name: &str, stores: &Path, js: &[&str]) -> Cluster {
        let more = "trestle { segment_bytes: 1MB }";
        Cluster::start_in(Scratch::new(name), name, &vec!["1"; js.len()], more, (stores, js), &[])
    }

    fn start_in(
        dir: Scratch,
        name: &str,
        cores: &[&str],
        more: &str,
        (stores, js): (&Path, &[&str]),
        flags: &[&str],
    ) -> Cluster {
        let routes = free_ports(cores.len());
        let mut servers = Vec::new();
        for (n, own) in routes.iter().enumerate() {
            let text =
                conf(name, n + 1, *own, &routes, more).replace("store-", &format!("{}/store-", stores.display()));
            let text = text.replace("jetstream { ", &format!("jetstream {{ {} ", js[n % js.len()]));
            let path = dir.file(&format!("{name}{}.conf", n + 1), &text);
            let words = [&["-c", &path, "--cores", cores[n]], flags].concat();
            servers.push(Server::launch(&dir, &format!("{name}{}", n + 1), &words));
        }
        let cluster = Cluster { dir, servers, routes };
        cluster.wait_formed();
        cluster
    }

    pub fn wait_formed(&self) {
        for server in &self.servers {
            server.wait_ready();
        }
        let mut client = self.servers[0].connect();
        wait_for("a cluster", || {
            let info = client.request("$JS.API.INFO", "").ok()?;
            info.payload.contains("\"streams\":").then_some(())
        });
    }

    /// Creates a stream, however long the cluster takes to be able to.
    pub fn create(&self, client: &mut Client, config: &str) {
        let name = text(config, "name").unwrap();
        wait_for("the stream to be made", || {
            let made = client.request(&format!("$JS.API.STREAM.CREATE.{name}"), config).ok()?;
            made.payload.contains("\"created\"").then_some(())
        });
    }

    /// The number of the server that leads a stream.
    pub fn leader(&self, client: &mut Client, stream: &str) -> usize {
        // What reaches a leader as it dies is never answered.
        client.set_timeout(Duration::from_millis(500));
        let leader = wait_for("a leader", || {
            let info = client.request(&format!("$JS.API.STREAM.INFO.{stream}"), "").ok()?;
            let leader = text(&info.payload, "leader")?;
            self.number_of(&leader)
        });
        client.set_timeout(PATIENCE);
        leader
    }

    fn number_of(&self, name: &str) -> Option<usize> {
        let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).collect();
        Some(digits.parse::<usize>().ok()? - 1)
    }
}
