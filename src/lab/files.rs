//! The servers of the lab as their configuration files describe them, and copies of the files that run on this machine.
//!
//! A copy differs from its original in the lines that name an address or the data directory, and in nothing else: ports
//! are loopback's, the routes to the other data center lead to the doors of the WAN, and the address that the server
//! tells others is its door as well, so that no dial goes around the WAN.

use std::net::TcpListener;
use std::path::Path;

/// Data centers that the lab can put a WAN between.
const DCS: usize = 2;

/// Files starting with this are for servers that only help out later.
const SPARE_PREFIX: &str = "temp_";

/// Free ports are looked for from here on, below the range that the kernel gives to outgoing connections (32768 and up
/// by default): while a server is down, a connection must not get its port, nor connect to itself there.
const FREE_FIRST: u16 = 10_000;
const FREE_COUNT: u16 = 10_000;

/// One server as its file describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerFile {
    pub name: String,
    pub file: String,
    /// From its tag `dc:N`.
    pub dc: u32,
    pub client_port: u16,
    pub http_port: u16,
    pub cluster_port: u16,
    pub http_base_path: String,
    text: String,
}

/// Ports of one server in the lab.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ports {
    pub client: u16,
    pub http: u16,
    pub cluster: u16,
    pub door: u16,
}

/// Reads the servers of a folder, in the order of their client ports.
pub fn read(folder: &Path) -> Result<Vec<ServerFile>, String> {
    let list = std::fs::read_dir(folder).map_err(|e| {
        format!(
            "no configurations in {}: {e} (run it from the repository, or name them by --config-dir)",
            folder.display()
        )
    })?;
    let mut servers = Vec::new();
    for entry in list.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.ends_with(".conf") || file.starts_with(SPARE_PREFIX) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).map_err(|e| format!("{}: {e}", entry.path().display()))?;
        // Files without a name are included by the others.
        if let Some(server) = ServerFile::parse(&file, text)? {
            servers.push(server);
        }
    }
    servers.sort_by_key(|server| server.client_port);
    let mut dcs: Vec<u32> = servers.iter().map(|server| server.dc).collect();
    dcs.sort_unstable();
    dcs.dedup();
    if dcs.len() != DCS {
        return Err(format!("{}: servers of two data centers (tags dc:N) are needed, found {dcs:?}", folder.display()));
    }
    Ok(servers)
}

/// A line of a configuration and where it stands.
struct Line<'a> {
    text: &'a str,
    /// The blocks around it, lower case, joined by dots.
    block: String,
    key: String,
    value: &'a str,
}

/// The lines of a file with their blocks. It knows one item per line and blocks that open at a line's end, which is how
/// files that people look after are written; what it cannot read is found out by the server that gets the copy.
fn lines(text: &str) -> Vec<Line<'_>> {
    let mut blocks: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for text in text.lines() {
        let bare = text.trim();
        let end = bare.find(|c: char| c.is_whitespace() || "=:{".contains(c)).unwrap_or(bare.len());
        let key = bare[..end].trim_matches(['"', '\'']).to_lowercase();
        let value = bare[end..].trim_start_matches(|c: char| c.is_whitespace() || c == ':' || c == '=').trim();
        lines.push(Line { text, block: blocks.join("."), key: key.clone(), value });
        if bare.starts_with('#') || bare.starts_with("//") {
            continue;
        }
        if bare.ends_with('{') {
            blocks.push(key);
        } else if bare.starts_with('}') {
            blocks.pop();
        }
    }
    lines
}

/// What stands between quotes, or all of it up to a comment.
fn plain(value: &str) -> &str {
    value.trim_end_matches(',').trim_matches(['"', '\''])
}

fn port(value: &str) -> Option<u16> {
    plain(value).rsplit(':').next()?.parse().ok()
}

impl ServerFile {
    /// `None`: not the file of a server.
    fn parse(file: &str, text: String) -> Result<Option<ServerFile>, String> {
        let mut server = ServerFile { file: file.to_owned(), ..ServerFile::default() };
        for line in lines(&text) {
            match (line.block.as_str(), line.key.as_str()) {
                ("", "server_name") => server.name = plain(line.value).to_owned(),
                ("", "server_tags") => server.dc = dc_tag(line.value).unwrap_or(0),
                ("", "listen" | "port") => server.client_port = port(line.value).unwrap_or(0),
                ("", "http_port" | "http") => server.http_port = port(line.value).unwrap_or(0),
                ("", "http_base_path") => server.http_base_path = plain(line.value).trim_end_matches('/').to_owned(),
                ("cluster", "listen" | "port") => server.cluster_port = port(line.value).unwrap_or(0),
                _ => {}
            }
        }
        if server.name.is_empty() {
            return Ok(None);
        }
        let missing = [
            (server.dc == 0, "a tag dc:N in server_tags"),
            (server.client_port == 0, "listen"),
            (server.http_port == 0, "http_port"),
            (server.cluster_port == 0, "cluster.listen"),
        ];
        if let Some((_, what)) = missing.iter().find(|(missing, _)| *missing) {
            return Err(format!("{file}: the lab needs {what}"));
        }
        server.text = text;
        Ok(Some(server))
    }

    /// The copy that runs with `ports[me]`. `all` and `ports` go together.
    pub fn rewrite(&self, all: &[ServerFile], ports: &[Ports], store: &Path) -> Result<String, String> {
        let me = all.iter().position(|other| other.name == self.name).ok_or("an unknown server")?;
        let mine = ports[me];
        let mut text = String::new();
        let (mut routes_done, mut store_done) = (false, false);
        for line in lines(&self.text) {
            let indent = &line.text[..line.text.len() - line.text.trim_start().len()];
            let rewritten = match (line.block.as_str(), line.key.as_str()) {
                ("", "listen" | "port") => format!("listen: \"127.0.0.1:{}\"", mine.client),
                ("", "http_port" | "http") => format!("http: \"127.0.0.1:{}\"", mine.http),
                ("cluster", "listen" | "port") => {
                    let advertise = format!("{indent}cluster_advertise: \"127.0.0.1:{}\"", mine.door);
                    format!("listen: \"127.0.0.1:{}\"\n{advertise}", mine.cluster)
                }
                ("cluster", "routes") => {
                    routes_done = true;
                    format!("routes: [{}]", self.routes(line.value, all, ports)?)
                }
                ("jetstream", "store" | "store_dir" | "storedir") => {
                    store_done = true;
                    format!("store_dir: {:?}", store.display().to_string())
                }
                _ => line.text[indent.len()..].to_owned(),
            };
            text.push_str(&format!("{indent}{rewritten}\n"));
        }
        match (routes_done, store_done) {
            (true, true) => Ok(text),
            (false, _) => Err(format!("{}: no line with cluster.routes", self.file)),
            (_, false) => Err(format!("{}: no line with jetstream.store_dir", self.file)),
        }
    }

    /// The same servers at their places in the lab: direct in the own data center, by a door elsewhere.
    fn routes(&self, value: &str, all: &[ServerFile], ports: &[Ports]) -> Result<String, String> {
        let mut routes = Vec::new();
        for url in value.trim_start_matches('[').trim_end_matches(']').split(',').map(str::trim) {
            let wanted = port(url).ok_or(format!("{}: the route {url} has no port", self.file))?;
            let at = all.iter().position(|server| server.cluster_port == wanted);
            let at = at.ok_or(format!("{}: no server listens for the route {url}", self.file))?;
            let port = if all[at].dc == self.dc { ports[at].cluster } else { ports[at].door };
            routes.push(format!("\"nats://127.0.0.1:{port}\""));
        }
        Ok(routes.join(", "))
    }
}

fn dc_tag(value: &str) -> Option<u32> {
    value.split(['"', '\'', ',', ' ', '[', ']']).find_map(|tag| tag.strip_prefix("dc:")?.parse().ok())
}

/// The ports of all servers, and the listeners of their doors. `base`: see `Options::base_port`.
pub fn ports(servers: &[ServerFile], base: Option<u16>) -> Result<Vec<(Ports, TcpListener)>, String> {
    let wanted = |(at, server): (u16, &ServerFile)| match base {
        None => [0, server.client_port, server.http_port, server.cluster_port],
        Some(base) => [0, base + at, base + 10 + at, base + 20 + at],
    };
    match base {
        Some(0) => free(servers.len()),
        _ => take(&(0..).zip(servers).map(wanted).collect::<Vec<_>>()),
    }
}

/// Four ports for each of so many servers, out of a block that nobody uses a port of. The doors stay open as long as the
/// lab lives, so that other labs pass the block by while a server is down.
fn free(servers: usize) -> Result<Vec<(Ports, TcpListener)>, String> {
    let count = u16::try_from(servers).ok().filter(|count| (1..=FREE_COUNT / 4).contains(count));
    let Some(count) = count else { return Err(format!("no ports for {servers} servers")) };
    let blocks = FREE_COUNT / (4 * count);
    // Labs that start together look in different places.
    let start = (std::process::id() % u32::from(blocks)) as u16;
    let found = (0..blocks).find_map(|turn| {
        let first = FREE_FIRST + (start + turn) % blocks * 4 * count;
        let wanted: Vec<_> = (0..count).map(|at| [0, 1, 2, 3].map(|n| first + 4 * at + n)).collect();
        take(&wanted).ok()
    });
    found.ok_or_else(|| "no ports are free".to_owned())
}

/// Door, client, page and cluster port of each server, if all can be had; 0 takes any.
fn take(wanted: &[[u16; 4]]) -> Result<Vec<(Ports, TcpListener)>, String> {
    // Held until all are there, so that none is taken twice.
    let mut held = Vec::new();
    let mut taken = Vec::new();
    for wanted in wanted {
        let mut ports = [0; 3];
        let (door, listener) = bind(wanted[0])?;
        for (port, wanted) in ports.iter_mut().zip(&wanted[1..]) {
            let (got, listener) = bind(*wanted)?;
            held.push(listener);
            *port = got;
        }
        let [client, http, cluster] = ports;
        taken.push((Ports { client, http, cluster, door }, listener));
    }
    Ok(taken)
}

fn bind(port: u16) -> Result<(u16, TcpListener), String> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| {
        format!("port {port} cannot be used: {e}. Another lab or server may have it: stop that, or use --base-port 0")
    })?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    Ok((port, listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch() -> Vec<ServerFile> {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/stretch")).unwrap()
    }

    fn some_ports(servers: &[ServerFile]) -> Vec<Ports> {
        (0..servers.len() as u16)
            .map(|at| Ports { client: 1000 + at, http: 2000 + at, cluster: 3000 + at, door: 4000 + at })
            .collect()
    }

    #[test]
    fn the_six_servers_are_found_with_their_facts() {
        let servers = stretch();
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["us_1", "us_2", "us_3", "emea_1", "emea_2", "emea_3"]);
        assert_eq!(servers.iter().map(|server| server.dc).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
        let emea_1 = &servers[3];
        assert_eq!((emea_1.client_port, emea_1.http_port, emea_1.cluster_port), (4223, 8223, 4243));
        assert_eq!(emea_1.http_base_path, "/nats/dashboard");
    }

    #[test]
    fn a_copy_changes_addresses_and_the_store_and_nothing_else() {
        let servers = stretch();
        let copy = servers[0].rewrite(&servers, &some_ports(&servers), Path::new("/data/us_1")).unwrap();
        let changed: Vec<&str> = copy.lines().filter(|line| !servers[0].text.lines().any(|old| old == *line)).collect();
        assert_eq!(
            changed.iter().map(|line| line.trim()).collect::<Vec<_>>(),
            [
                "listen: \"127.0.0.1:1000\"",
                "http: \"127.0.0.1:2000\"",
                "listen: \"127.0.0.1:3000\"",
                "cluster_advertise: \"127.0.0.1:4000\"",
                "routes: [\"nats://127.0.0.1:3001\", \"nats://127.0.0.1:3002\", \"nats://127.0.0.1:4003\", \
                 \"nats://127.0.0.1:4004\", \"nats://127.0.0.1:4005\"]",
                "store_dir: \"/data/us_1\"",
            ]
        );
        assert_eq!(copy.lines().count(), servers[0].text.lines().count() + 1);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let text = "server_name: a\nserver_tags: [\"dc:1\"]\nlisten: 1\nhttp: 2\ncluster {\n  listen: 3\n}\n";
        let server = ServerFile::parse("a.conf", text.into()).unwrap().unwrap();
        let alone = std::slice::from_ref(&server);
        let error = server.rewrite(alone, &some_ports(alone), Path::new("x")).unwrap_err();
        assert_eq!(error, "a.conf: no line with cluster.routes");
        let error = ServerFile::parse("a.conf", text.replace("dc:1", "eu")).unwrap_err();
        assert!(error.contains("dc:N"), "{error}");
        assert_eq!(ServerFile::parse("b.conf", "accounts {}".into()).unwrap(), None);
        assert!(read(Path::new("no/such/folder")).unwrap_err().contains("--config-dir"));
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(port).unwrap_err();
        assert!(error.contains(&format!("port {port} cannot be used")), "{error}");
    }

    #[test]
    fn labs_that_look_for_free_ports_never_share_one() {
        let servers = stretch();
        // The servers are not up yet: only the doors are there.
        let labs = [0; 5].map(|_| ports(&servers, Some(0)).unwrap());
        let mut all: Vec<u16> =
            labs.iter().flatten().flat_map(|(p, _)| [p.client, p.http, p.cluster, p.door]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5 * 24);
        assert!(free(0).is_err() && free(70_000).is_err());
    }
}
