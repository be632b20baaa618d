//! The trie of tokens under a [`super::Sublist`]. Nodes live in one vector and refer to each other by number; a freed
//! node is used again. No walk recurses, so that a subject of thousands of tokens needs no stack.

use super::{Matches, Table};
use crate::subject;
use ahash::RandomState;
use bytes::Bytes;
use std::sync::Arc;

/// No node, or no token.
const NONE: u32 = u32::MAX;
/// The node of no token at all.
const ROOT: u32 = 0;

#[derive(Debug)]
pub struct Trie<T> {
    nodes: Vec<Node<T>>,
    nodes_free: Vec<u32>,
    /// Literal children: (node, token) → node.
    children: Table<(u32, u32), u32>,
    tokens: Tokens,
    /// Kept between lookups so that they do not allocate: the token numbers of the subject, and the places to visit.
    subject_tokens: Vec<u32>,
    visits: Vec<(u32, u32)>,
}

/// One filter's place. Invariant: a node other than the root has values, or a child.
#[derive(Debug)]
struct Node<T> {
    parent: u32,
    place: Place,
    /// Literal children, linked through `next` and `previous`.
    first_child: u32,
    next: u32,
    previous: u32,
    /// The child for `*` and the one for `>`.
    wildcard: u32,
    rest: u32,
    /// Sorted, so that the result does not depend on the order of arrival.
    plain: Vec<T>,
    /// Sorted by name, members sorted. Boxed because few filters have any.
    queues: Option<Box<Queues<T>>>,
}

type Queues<T> = Vec<(Bytes, Vec<T>)>;

/// Which child of its parent a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Literal(u32),
    Wildcard,
    Rest,
}

impl<T> Node<T> {
    fn new(parent: u32, place: Place) -> Self {
        let (first_child, next, previous, wildcard, rest) = (NONE, NONE, NONE, NONE, NONE);
        Node { parent, place, first_child, next, previous, wildcard, rest, plain: Vec::new(), queues: None }
    }

    fn has_values(&self) -> bool {
        !self.plain.is_empty() || self.queues.is_some()
    }

    fn is_dead(&self) -> bool {
        !self.has_values() && self.first_child == NONE && self.wildcard == NONE && self.rest == NONE
    }
}

impl<T: Copy + Ord> Trie<T> {
    pub fn new(hasher: RandomState) -> Self {
        Trie {
            nodes: vec![Node::new(NONE, Place::Rest)],
            nodes_free: Vec::new(),
            children: Table::with_hasher(hasher.clone()),
            tokens: Tokens::new(hasher),
            subject_tokens: Vec::new(),
            visits: Vec::new(),
        }
    }

    /// Adds a value under a valid filter; false when it is there already.
    pub fn insert(&mut self, filter: &[u8], queue: Option<&[u8]>, value: T) -> bool {
        let mut at = ROOT;
        for token in subject::tokens(filter) {
            at = self.child_or_new(at, token);
        }
        let node = &mut self.nodes[at as usize];
        match queue {
            None => insert_sorted(&mut node.plain, value),
            Some(queue) => {
                let queues = node.queues.get_or_insert_default();
                let slot = match queues.binary_search_by(|(name, _)| name[..].cmp(queue)) {
                    Ok(slot) => slot,
                    Err(slot) => {
                        queues.insert(slot, (Bytes::copy_from_slice(queue), Vec::new()));
                        slot
                    }
                };
                insert_sorted(&mut queues[slot].1, value)
            }
        }
    }

    /// Takes a value out; false when it was not there.
    pub fn remove(&mut self, filter: &[u8], queue: Option<&[u8]>, value: T) -> bool {
        let Some(at) = self.find(filter) else { return false };
        let node = &mut self.nodes[at as usize];
        let removed = match queue {
            None => remove_sorted(&mut node.plain, value),
            Some(queue) => remove_queue(&mut node.queues, queue, value),
        };
        if removed {
            self.prune(at);
        }
        removed
    }

    /// Adds everyone whose filter matches the subject.
    pub fn matches(&mut self, subject: &[u8], out: &mut Matches<T>) {
        self.visit(subject, |node| {
            out.plain.extend_from_slice(&node.plain);
            for (queue, members) in node.queues.iter().flat_map(|queues| queues.iter()) {
                out.add_queue(queue, members);
            }
            false
        });
    }

    pub fn has_interest(&mut self, subject: &[u8]) -> bool {
        self.visit(subject, |_| true)
    }

    /// Calls `found` for every node with values whose filter matches, until it returns true.
    fn visit(&mut self, subject: &[u8], mut found: impl FnMut(&Node<T>) -> bool) -> bool {
        self.subject_tokens.clear();
        for token in subject::tokens(subject) {
            if token.is_empty() {
                return false;
            }
            self.subject_tokens.push(self.tokens.find(token));
        }
        self.visits.clear();
        self.visits.push((ROOT, 0));
        while let Some((at, depth)) = self.visits.pop() {
            let node = &self.nodes[at as usize];
            let Some(token) = self.subject_tokens.get(depth as usize) else {
                if node.has_values() && found(node) {
                    return true;
                }
                continue;
            };
            if node.rest != NONE && found(&self.nodes[node.rest as usize]) {
                return true;
            }
            if node.wildcard != NONE {
                self.visits.push((node.wildcard, depth + 1));
            }
            if *token != NONE
                && node.first_child != NONE
                && let Some(child) = self.children.get(&(at, *token))
            {
                self.visits.push((*child, depth + 1));
            }
        }
        false
    }

    /// Whether some subject is matched both by `filter` and by a filter in the trie. Visits no node twice.
    pub fn overlaps(&self, filter: &[u8]) -> bool {
        if !subject::is_valid_filter(filter) {
            return false;
        }
        let tokens: Vec<&[u8]> = subject::tokens(filter).collect();
        let mut visits = vec![(ROOT, 0)];
        while let Some((at, depth)) = visits.pop() {
            let node = &self.nodes[at as usize];
            let Some(token) = tokens.get(depth) else {
                if node.has_values() {
                    return true;
                }
                continue;
            };
            // Below every node there is a filter: a node that has neither values nor children does not exist.
            let has_child = node.first_child != NONE || node.wildcard != NONE;
            if node.rest != NONE || (*token == subject::WILDCARD_REST && has_child) {
                return true;
            }
            if node.wildcard != NONE {
                visits.push((node.wildcard, depth + 1));
            }
            if *token == subject::WILDCARD {
                self.each_child(node, |child| visits.push((child, depth + 1)));
            } else if let Some(child) = self.children.get(&(at, self.tokens.find(token))) {
                visits.push((*child, depth + 1));
            }
        }
        false
    }

    fn each_child(&self, node: &Node<T>, mut take: impl FnMut(u32)) {
        let mut child = node.first_child;
        while child != NONE {
            take(child);
            child = self.nodes[child as usize].next;
        }
    }

    /// The node of a filter.
    fn find(&self, filter: &[u8]) -> Option<u32> {
        let mut at = ROOT;
        for token in subject::tokens(filter) {
            at = match token {
                subject::WILDCARD => self.nodes[at as usize].wildcard,
                subject::WILDCARD_REST => self.nodes[at as usize].rest,
                _ => self.children.get(&(at, self.tokens.find(token))).copied().unwrap_or(NONE),
            };
            if at == NONE {
                return None;
            }
        }
        Some(at)
    }

    fn child_or_new(&mut self, parent: u32, token: &[u8]) -> u32 {
        let node = &self.nodes[parent as usize];
        match token {
            subject::WILDCARD if node.wildcard != NONE => node.wildcard,
            subject::WILDCARD => {
                let child = self.new_node(parent, Place::Wildcard);
                self.nodes[parent as usize].wildcard = child;
                child
            }
            subject::WILDCARD_REST if node.rest != NONE => node.rest,
            subject::WILDCARD_REST => {
                let child = self.new_node(parent, Place::Rest);
                self.nodes[parent as usize].rest = child;
                child
            }
            _ => self.literal_or_new(parent, token),
        }
    }

    fn literal_or_new(&mut self, parent: u32, token: &[u8]) -> u32 {
        if let Some(child) = self.children.get(&(parent, self.tokens.find(token))) {
            return *child;
        }
        let token = self.tokens.intern(token);
        let child = self.new_node(parent, Place::Literal(token));
        self.children.insert((parent, token), child);
        let next = self.nodes[parent as usize].first_child;
        self.nodes[child as usize].next = next;
        if next != NONE {
            self.nodes[next as usize].previous = child;
        }
        self.nodes[parent as usize].first_child = child;
        child
    }

    fn new_node(&mut self, parent: u32, place: Place) -> u32 {
        let node = Node::new(parent, place);
        if let Some(at) = self.nodes_free.pop() {
            self.nodes[at as usize] = node;
            return at;
        }
        let at = u32::try_from(self.nodes.len()).ok().filter(|at| *at != NONE);
        self.nodes.push(node);
        at.expect("fewer than four billion filters fit into memory")
    }

    /// Removes a node that holds nothing any more, and the parents that only led to it.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT && self.nodes[at as usize].is_dead() {
            let Node { parent, place, next, previous, .. } = self.nodes[at as usize];
            match place {
                Place::Wildcard => self.nodes[parent as usize].wildcard = NONE,
                Place::Rest => self.nodes[parent as usize].rest = NONE,
                Place::Literal(token) => {
                    self.children.remove(&(parent, token));
                    self.tokens.release(token);
                    match previous {
                        NONE => self.nodes[parent as usize].first_child = next,
                        previous => self.nodes[previous as usize].next = next,
                    }
                    if next != NONE {
                        self.nodes[next as usize].previous = previous;
                    }
                }
            }
            // Frees what the vectors held; the place itself waits for its next use.
            self.nodes[at as usize] = Node::new(NONE, Place::Rest);
            self.nodes_free.push(at);
            at = parent;
        }
    }

    #[cfg(test)]
    pub fn is_bare(&self) -> bool {
        self.nodes.len() - self.nodes_free.len() == 1 && self.children.is_empty() && self.tokens.numbers.is_empty()
    }
}

fn insert_sorted<T: Copy + Ord>(values: &mut Vec<T>, value: T) -> bool {
    let Err(at) = values.binary_search(&value) else { return false };
    if values.is_empty() {
        // Most filters have one subscriber: do not hold room for four.
        values.reserve_exact(1);
    }
    values.insert(at, value);
    true
}

fn remove_sorted<T: Copy + Ord>(values: &mut Vec<T>, value: T) -> bool {
    let Ok(at) = values.binary_search(&value) else { return false };
    values.remove(at);
    true
}

fn remove_queue<T: Copy + Ord>(queues: &mut Option<Box<Queues<T>>>, queue: &[u8], value: T) -> bool {
    let Some(groups) = queues else { return false };
    let Ok(slot) = groups.binary_search_by(|(name, _)| name[..].cmp(queue)) else { return false };
    if !remove_sorted(&mut groups[slot].1, value) {
        return false;
    }
    if groups[slot].1.is_empty() {
        groups.remove(slot);
    }
    if groups.is_empty() {
        *queues = None;
    }
    true
}

/// Every literal token that occurs in a filter has a number, and a count of the nodes that use it.
#[derive(Debug)]
struct Tokens {
    numbers: Table<Arc<[u8]>, u32>,
    used: Vec<(Arc<[u8]>, u32)>,
    free: Vec<u32>,
}

impl Tokens {
    fn new(hasher: RandomState) -> Self {
        Tokens { numbers: Table::with_hasher(hasher), used: Vec::new(), free: Vec::new() }
    }

    /// The token's number, or `NONE` when no filter has it.
    fn find(&self, token: &[u8]) -> u32 {
        self.numbers.get(token).copied().unwrap_or(NONE)
    }

    fn intern(&mut self, token: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(token) {
            self.used[*number as usize].1 += 1;
            return *number;
        }
        let text: Arc<[u8]> = token.into();
        let number = match self.free.pop() {
            Some(number) => {
                self.used[number as usize] = (text.clone(), 1);
                number
            }
            None => {
                self.used.push((text.clone(), 1));
                (self.used.len() - 1) as u32
            }
        };
        self.numbers.insert(text, number);
        number
    }

    fn release(&mut self, number: u32) {
        let (text, uses) = &mut self.used[number as usize];
        *uses -= 1;
        if *uses == 0 {
            let text = std::mem::replace(text, Arc::from(&[][..]));
            self.numbers.remove(&text);
            self.free.push(number);
        }
    }
}
