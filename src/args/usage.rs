//! What `--help` and `--version` print.

/// One line that both people and the tools that start servers can read: the release whose behaviour is met, then
/// what really runs.
pub const VERSION_LINE: &str = concat!("nats-server: v2.15.1 (trestle ", env!("CARGO_PKG_VERSION"), ")");

/// The whole of `--help`.
pub fn usage() -> &'static str {
    USAGE
}

const USAGE: &str = "\
Trestle: a NATS-compatible streaming server whose streams stretch over data centers.

Usage:
    trestle [flags]                    run a server
    trestle -t -c FILE                 check a configuration file and show what it says
    trestle lab stretch                six servers in two data centers, on this machine
    trestle check DIR                  verify a data directory while no server uses it

Flags take one dash or two, and `-flag value` or `-flag=value`. They beat the file.

Server
    -c, --config FILE                  configuration file (.conf, or the same keys in a .toml)
    -a, --addr, --net HOST             address for clients (0.0.0.0)
    -p, --port N                       port for clients (4222); -1 picks a free one
    -m, --http_port N                  port of the monitoring pages; -1 picks a free one
    -n, --name, --server_name NAME     name of this server, unique in its cluster
        --client_advertise HOST[:PORT] what clients are told instead of the own address
        --cores N                      cores to run on (all that the process may use)
    -P, --pid FILE                     write the process id there
        --ports_file_dir DIR           write the ports really used into a file there
    -t                                 check the configuration (-c) and exit
    -sl, --signal VERB[=PID|FILE]      tell a running server: quit, term, stop, reload, reopen, ldm

JetStream
    -js, --jetstream                   switch streams on
    -sd, --store_dir DIR               where they are kept

Cluster
        --cluster, --cluster_listen URL  listen for other servers, nats://[user:password@]host:port
        --cluster_name NAME            name of the cluster
        --routes URL,URL               servers to connect to
        --cluster_advertise HOST[:PORT]  what servers are told instead of the own address
        --no_advertise                 tell clients nothing of the other servers
        --connect_retries N            attempts for servers learned from others

Who may connect
        --user NAME --pass PASSWORD    one user
        --auth TOKEN                   one token

Log
    -l, --log FILE                     into a file instead of standard error
        --log_size_limit BYTES         start a new file when it is that long
    -T, --logtime[=false]              time in front of each line
        --logtime_utc                  in UTC
    -D, --debug                        more lines
    -V, --trace                        every protocol line; -VV the system account's too
    -DV, -DVV                          both
        --max_traced_msg_len BYTES     longest message shown in a trace line

    -v, --version                      the release
    -h, --help                         this text

Examples
    trestle -js -sd /var/lib/trestle -m 8222
    trestle -c configs/single/trestle.conf
    trestle -p -1 -js -sd ./data --cores 2
    trestle --signal ldm=/run/trestle.pid
";
