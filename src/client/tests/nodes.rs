//! Several cores and servers, wired in memory: who hears what when clients sit on different ones.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::desk::{Desk, config, options};
use crate::account::Accounts;
use crate::client::{FrontOutput, Service};
use crate::cluster::interest::Node;
use crate::cluster::wire::NodeMsg;
use crate::ids::{CoreId, Place, ServerId};
use crate::route::Lot;

/// Servers of some cores each. What the hub does with interest and messages of nodes is done here.
struct Cluster {
    desks: BTreeMap<(u64, CoreId), Desk>,
    cores: CoreId,
}

impl Cluster {
    fn new(servers: u64, cores: CoreId) -> Cluster {
        let mut cluster = Cluster { desks: BTreeMap::new(), cores };
        for server in 1..=servers {
            for core in 0..cores {
                let desk = Desk::with(options(config(""), server, core, cores));
                cluster.desks.insert((server, core), desk);
            }
        }
        for one in 1..=servers {
            for other in (1..=servers).filter(|other| *other != one) {
                cluster.at(one, 0).front.node_up(ServerId(other));
            }
        }
        cluster.run();
        cluster
    }

    fn at(&mut self, server: u64, core: CoreId) -> &mut Desk {
        self.desks.get_mut(&(server, core)).unwrap()
    }

    fn say(&mut self, server: u64, core: CoreId, client: u64, text: &str) {
        self.at(server, core).send(client, text);
        self.run();
    }

    /// Carries everything that nodes say to each other, until they are silent.
    fn run(&mut self) {
        loop {
            let (mut mail, mut marks, mut heard) = (Vec::new(), Vec::new(), Vec::new());
            for (from, desk) in &mut self.desks {
                desk.settle();
                for output in desk.others.drain(..) {
                    match output {
                        FrontOutput::ToNode { node, msg } => mail.push((*from, node, msg)),
                        FrontOutput::Barrier { mark } => marks.push((*from, mark)),
                        FrontOutput::Heard { core, bytes } => heard.push((*from, core, bytes)),
                        _ => {}
                    }
                }
            }
            if mail.is_empty() && marks.is_empty() && heard.is_empty() {
                return;
            }
            for ((server, core), to, bytes) in heard {
                let desk = self.at(server, to);
                desk.front.heard(desk.now, core, bytes);
            }
            for (from, node, msg) in mail {
                self.carry(from, node, msg);
            }
            for ((server, core), mark) in marks {
                for other in (0..self.cores).filter(|other| *other != core) {
                    self.at(server, core).front.barrier_heard(other, mark);
                }
            }
        }
    }

    fn carry(&mut self, from: (u64, CoreId), node: Node, msg: NodeMsg) {
        let place = Place { server: ServerId(from.0), core: from.1 };
        match (node, msg) {
            (Node::Core(core), NodeMsg::Interest { account, subject, queue, add }) => {
                assert_ne!(core, from.1);
                self.at(from.0, core).front.interest(Node::Core(from.1), account, subject, queue, add);
            }
            (Node::Server(server), NodeMsg::Interest { account, subject, queue, add }) => {
                assert_eq!(from.1, 0, "only the core that owns the links tells servers");
                for core in 0..self.cores {
                    let front = &mut self.at(server.0, core).front;
                    front.interest(Node::Server(place.server), account, subject.clone(), queue.clone(), add);
                }
            }
            (Node::Core(core), NodeMsg::Message(routed)) => {
                let desk = self.at(from.0, core);
                desk.front.routed(desk.now, place, routed);
            }
            (Node::Server(server), NodeMsg::Message(routed)) => {
                let desk = self.at(server.0, 0);
                desk.front.routed(desk.now, place, routed);
            }
            (node, msg) => panic!("{node:?} was sent {msg:?}"),
        }
    }

    fn interest(&mut self, server: u64) -> usize {
        self.at(server, 0).front.server_interest().len()
    }
}

#[test]
fn a_message_reaches_every_plain_subscriber_on_every_node_once() {
    let mut cluster = Cluster::new(3, 2);
    let mut clients = Vec::new();
    for server in 1..=3 {
        for core in 0..2 {
            let id = cluster.at(server, core).quiet();
            cluster.say(server, core, id, "SUB a.* 1\r\nSUB a.> 2\r\n");
            clients.push((server, core, id));
        }
    }
    for (server, core, id) in clients.clone() {
        cluster.say(server, core, id, "PUB a.b 1\r\nx\r\n");
        for (server, core, id) in &clients {
            let text = cluster.at(*server, *core).text(*id);
            assert_eq!(text.matches("MSG a.b 1 1\r\nx\r\n").count(), 1);
            assert_eq!(text.matches("MSG a.b 2 1\r\nx\r\n").count(), 1);
        }
    }
}

#[test]
fn one_member_of_a_queue_group_over_all_nodes_gets_a_message() {
    let mut cluster = Cluster::new(2, 2);
    let publisher = cluster.at(1, 1).quiet();
    let mut members = Vec::new();
    for (server, core, count) in [(1, 0, 3), (1, 1, 1), (2, 0, 2), (2, 1, 2)] {
        for _ in 0..count {
            let id = cluster.at(server, core).quiet();
            cluster.say(server, core, id, "SUB a q 1\r\n");
            members.push((server, core, id, 0usize));
        }
    }
    for _ in 0..400 {
        cluster.say(1, 1, publisher, "PUB a 1\r\nx\r\n");
        let mut got = 0;
        for (server, core, id, count) in &mut members {
            let messages = cluster.at(*server, *core).text(*id).matches("MSG").count();
            *count += messages;
            got += messages;
        }
        assert_eq!(got, 1);
    }
    for (server, .., count) in &members {
        match server {
            1 => assert!((60..140).contains(count), "a member beside the publisher got {count} of 400"),
            _ => assert_eq!(*count, 0, "another server's member got some while this one has its own"),
        }
    }
    for (server, core, id, _) in members.iter().filter(|member| member.0 == 1) {
        cluster.say(*server, *core, *id, "UNSUB 1\r\n");
    }
    for _ in 0..40 {
        cluster.say(1, 1, publisher, "PUB a 1\r\nx\r\n");
    }
    let far: usize = members
        .iter()
        .filter(|member| member.0 == 2)
        .map(|(server, core, id, _)| cluster.at(*server, *core).text(*id).matches("MSG").count())
        .sum();
    assert_eq!(far, 40);
}

#[test]
fn a_request_crosses_servers_and_cores_and_its_answer_comes_back() {
    let mut cluster = Cluster::new(2, 2);
    let (asker, helper) = (cluster.at(1, 1).quiet(), cluster.at(2, 1).quiet());
    cluster.say(2, 1, helper, "SUB help 1\r\n");
    cluster.say(1, 1, asker, "SUB inbox 1\r\nPUB help inbox 1\r\n?\r\n");
    assert_eq!(cluster.at(2, 1).text(helper), "MSG help 1 inbox 1\r\n?\r\n");
    cluster.say(2, 1, helper, "PUB inbox 1\r\n!\r\n");
    assert_eq!(cluster.at(1, 1).text(asker), "MSG inbox 1 1\r\n!\r\n");
}

#[test]
fn interest_that_ends_is_untold_everywhere() {
    let mut cluster = Cluster::new(2, 2);
    let (one, two) = (cluster.at(1, 0).quiet(), cluster.at(1, 1).quiet());
    cluster.say(1, 0, one, "SUB a 1\r\nSUB a 2\r\nSUB b q 3\r\n");
    cluster.say(1, 1, two, "SUB a 1\r\nSUB b q 3\r\nUNSUB 1 1\r\n");
    assert_eq!(cluster.interest(1), 3);
    let far = cluster.at(2, 1).quiet();
    cluster.say(2, 1, far, "PUB a 0\r\n\r\n");
    cluster.say(1, 0, one, "UNSUB 1\r\nUNSUB 2\r\n");
    assert_eq!(cluster.interest(1), 2);
    for (core, id) in [(0, one), (1, two)] {
        let desk = cluster.at(1, core);
        desk.front.gone(desk.now, crate::ids::ConnId(id), "EOF");
        cluster.run();
    }
    assert_eq!(cluster.interest(1), 0);
    for server in 1..=2 {
        for core in 0..2 {
            assert_eq!(cluster.at(server, core).front.account_totals()[0].list_entries, 0, "{server}.{core}");
        }
    }
}

#[test]
fn a_server_that_comes_late_learns_all_and_one_that_goes_is_forgotten() {
    let mut cluster = Cluster::new(2, 1);
    let far = cluster.at(2, 0).quiet();
    cluster.say(2, 0, far, "SUB a 1\r\nSUB q g 2\r\nSUB q g 3\r\n");
    cluster.at(1, 0).front.forget(Node::Server(ServerId(2)));
    cluster.at(2, 0).front.forget(Node::Server(ServerId(1)));
    assert!(!cluster.at(1, 0).front.has_interest(Accounts::GLOBAL, b"a"));
    cluster.say(2, 0, far, "UNSUB 3\r\nSUB late 4\r\n");
    cluster.at(2, 0).front.node_up(ServerId(1));
    cluster.at(2, 0).front.node_up(ServerId(1));
    cluster.run();
    let near = cluster.at(1, 0).quiet();
    cluster.say(1, 0, near, "PUB a 0\r\n\r\nPUB q 0\r\n\r\nPUB late 0\r\n\r\n");
    assert_eq!(cluster.at(2, 0).text(far), "MSG a 1 0\r\n\r\nMSG q 2 0\r\n\r\nMSG late 4 0\r\n\r\n");
}

#[test]
fn announced_services_hear_other_nodes_and_plain_ones_only_their_own_core() {
    let mut cluster = Cluster::new(2, 2);
    for server in 1..=2 {
        for core in 0..2 {
            let front = &mut cluster.at(server, core).front;
            front.service(Accounts::GLOBAL, Bytes::from_static(b"api"), Service::Api, false);
            if core == 0 {
                front.service(Accounts::GLOBAL, Bytes::from_static(b"ping"), Service::System, true);
            }
        }
    }
    cluster.run();
    let id = cluster.at(1, 1).quiet();
    cluster.at(1, 1).send(id, "PUB api 0\r\n\r\nPUB ping 0\r\n\r\n");
    let mut heard = Vec::new();
    for _ in 0..3 {
        let mut mail = Vec::new();
        for (place, desk) in &mut cluster.desks {
            desk.settle();
            for output in desk.others.drain(..) {
                match output {
                    FrontOutput::Service { service, .. } => heard.push((*place, service)),
                    FrontOutput::ToNode { node, msg } => mail.push((*place, node, msg)),
                    _ => {}
                }
            }
        }
        mail.into_iter().for_each(|(from, node, msg)| cluster.carry(from, node, msg));
    }
    heard.sort_unstable();
    assert_eq!(heard, [((1, 0), Service::System), ((1, 1), Service::Api), ((2, 0), Service::System)]);
}

#[test]
fn whatever_clients_do_every_node_knows_exactly_who_listens() {
    let mut lot = Lot::new(9);
    let mut cluster = Cluster::new(2, 2);
    let mut clients: Vec<(u64, CoreId, u64)> = Vec::new();
    for _ in 0..8 {
        let (server, core) = (1 + lot.below(2), lot.below(2) as CoreId);
        clients.push((server, core, cluster.at(server, core).quiet()));
    }
    // Subscriptions as they should be: client, id → filter and group.
    let mut subs: BTreeMap<(usize, u64), (String, Option<&str>)> = BTreeMap::new();
    for step in 0..1500u64 {
        let who = lot.below(8) as usize;
        let (server, core, id) = clients[who];
        let sid = lot.below(6);
        let filter = ["a.b", "a.*", "a.>", "c"][lot.below(4) as usize].to_string();
        if subs.remove(&(who, sid)).is_some() {
            cluster.say(server, core, id, &format!("UNSUB {sid}\r\n"));
        } else {
            let queue = [None, Some("q"), Some("r")][lot.below(3) as usize];
            cluster.say(server, core, id, &format!("SUB {filter} {} {sid}\r\n", queue.unwrap_or("")));
            subs.insert((who, sid), (filter, queue));
        }
        if step % 3 == 0 {
            check_delivery(&mut cluster, &clients, &subs, lot.below(8) as usize);
        }
    }
}

/// Publishes and compares who got it with what the plain list of subscriptions says.
fn check_delivery(
    cluster: &mut Cluster,
    clients: &[(u64, CoreId, u64)],
    subs: &BTreeMap<(usize, u64), (String, Option<&str>)>,
    publisher: usize,
) {
    let (server, core, id) = clients[publisher];
    cluster.say(server, core, id, "PUB a.b 1\r\nx\r\n");
    let matching = || subs.iter().filter(|(_, (filter, _))| net::subject::matches(filter.as_bytes(), b"a.b"));
    let mut expected_groups: BTreeMap<&str, usize> = BTreeMap::new();
    expected_groups.extend(matching().filter_map(|(_, (_, queue))| queue.map(|queue| (queue, 0))));
    for (who, (server, core, id)) in clients.iter().enumerate() {
        let text = cluster.at(*server, *core).text(*id);
        for sid in 0..6 {
            let got = text.matches(&format!("MSG a.b {sid} 1\r\n")).count();
            let queue = matching().find(|(at, _)| **at == (who, sid)).map(|(_, (_, queue))| *queue);
            match queue {
                None => assert_eq!(got, 0),
                Some(None) => assert_eq!(got, 1),
                Some(Some(queue)) => *expected_groups.get_mut(queue).unwrap() += got,
            }
        }
    }
    assert!(expected_groups.values().all(|got| *got == 1), "{expected_groups:?}");
}

#[test]
fn a_publisher_waits_while_its_window_to_another_core_is_full() {
    let mut cluster = Cluster::new(1, 2);
    let reader = cluster.at(1, 1).quiet();
    cluster.say(1, 1, reader, "SUB a 1\r\n");
    let publisher = cluster.at(1, 0).quiet();
    cluster.run();
    let one = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    let desk = cluster.at(1, 0);
    let wanted = 4000;
    for _ in 0..wanted {
        desk.send(publisher, &one);
    }
    desk.settle();
    let sent = desk.others.iter().filter(|output| matches!(output, FrontOutput::ToNode { .. })).count();
    assert!(sent > 1000 && sent < 2500, "{sent} messages are on their way");
    assert!(desk.others.iter().any(|output| matches!(output, FrontOutput::ReadPause { paused: true, .. })));
    // What the other core hears lets it go on, without the clock.
    cluster.run();
    assert_eq!(cluster.at(1, 1).text(reader).matches("MSG a 1 1000\r\n").count(), wanted);
}

#[test]
fn a_core_that_hears_nothing_stops_no_publisher_for_good() {
    let mut cluster = Cluster::new(1, 2);
    let reader = cluster.at(1, 1).quiet();
    cluster.say(1, 1, reader, "SUB a 1\r\n");
    let desk = cluster.at(1, 0);
    let publisher = desk.quiet();
    let one = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    for _ in 0..4000 {
        desk.send(publisher, &one);
    }
    desk.settle();
    let on_the_way = |desk: &Desk| desk.others.iter().filter(|one| matches!(one, FrontOutput::ToNode { .. })).count();
    let before = on_the_way(desk);
    desk.advance(5_000);
    desk.settle();
    assert_eq!(on_the_way(desk), before + 1);
}
