//! The house rules that a machine can keep.
//!
//! Edges between crates and modules, calls that are banned where decisions are made, files that nobody reaches, words
//! that mean "unfinished", paths in the map that are stale; and two ratchets: the longest file and the longest function
//! may shrink, and may not grow unnoticed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of the longest file and function that are allowed.
const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 80;

/// The hubs only dispatch: what grows belongs into a part. They may only shrink.
const HUBS: [(&str, usize); 3] = [("src/shard.rs", 450), ("src/config/mod.rs", 60), ("src/jetstream/mod.rs", 300)];

/// The only places that may wait, read a clock or touch files.
const SHELL: [&str; 6] = [
    "src/runtime/",
    "src/lab/",
    "net/src/uring/",
    "storage/src/uring/",
    "storage/src/blocking.rs",
    "storage/src/lock.rs",
];
const SHELL_FILES: [&str; 6] =
    ["src/main.rs", "src/config/source.rs", "src/logging.rs", "src/args.rs", "storage/src/check.rs", "src/check.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench lies in the workspace").to_path_buf()
}

/// Every file of ours below these folders, by path from the root.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && let Ok(text) = fs::read_to_string(&path)
            {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

const PRODUCT: [&str; 4] = ["src", "net/src", "raft/src", "storage/src"];

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.starts_with("bench/")
}

/// The part of a file before its unit tests.
fn product_part(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

#[test]
fn the_leaves_know_none_of_each_other() {
    let mut wrong = Vec::new();
    for (crate_name, others) in
        [("net", ["raft", "storage"]), ("raft", ["net", "storage"]), ("storage", ["net", "raft"])]
    {
        let manifest = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).expect("a manifest");
        let manifest = manifest.split("[dev-dependencies]").next().unwrap_or_default().to_owned();
        for other in others.iter().chain(&["trestle "]) {
            if manifest
                .lines()
                .any(|line| line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} =")))
            {
                wrong.push(format!("{crate_name} depends on {other}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn only_the_shell_waits_reads_clocks_and_touches_files() {
    let banned = [".await", "glommio::", "std::fs", "Instant::now", "SystemTime::now", "std::thread::"];
    let mut wrong = Vec::new();
    for (name, text) in sources(&PRODUCT) {
        let shell = SHELL.iter().any(|shell| name.starts_with(shell)) || SHELL_FILES.contains(&name.as_str());
        if shell || is_test(&name) {
            continue;
        }
        for (line, code) in code_lines(product_part(&text)) {
            wrong.extend(banned.iter().filter(|word| says(code, word)).map(|word| format!("{name}:{line}: {word}")));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The word stands there and does not go on: `.await`, not `.awaited`.
fn says(code: &str, word: &str) -> bool {
    code.split(word).skip(1).any(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        || word.ends_with("::") && code.contains(word)
}

#[test]
fn no_file_or_function_is_longer_than_its_ratchet() {
    let mut wrong = Vec::new();
    let mut long_functions = Vec::new();
    for (name, text) in sources(&["src", "net", "raft", "storage", "bench"]) {
        let lines = text.lines().count();
        let allowed = HUBS.iter().find(|(hub, _)| *hub == name).map_or(FILE_LINES_MAX, |(_, lines)| *lines);
        if lines > allowed {
            wrong.push(format!("{name} has {lines} lines, {allowed} are allowed"));
        }
        long_functions.extend(
            functions(&text)
                .into_iter()
                .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
                .map(|(function, lines)| format!("{name}: {function} has {lines} lines")),
        );
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(long_functions, Vec::<String>::new());
}

/// Functions with their lengths: from a line that begins one to the brace at its indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let words: Vec<&str> = trimmed.split_whitespace().take(5).collect();
        let Some(word) = words.iter().position(|word| *word == "fn") else { continue };
        let modifiers =
            words[..word].iter().all(|word| matches!(*word, "async" | "const" | "unsafe") || word.starts_with("pub"));
        if !modifiers || trimmed.starts_with("//") {
            continue;
        }
        let indent = " ".repeat(line.len() - trimmed.len());
        let end = format!("{indent}}}");
        if trimmed.ends_with('}') || trimmed.ends_with(';') {
            continue;
        }
        if let Some(length) = lines[at..].iter().position(|line| *line == end) {
            found.push((words.get(word + 1).unwrap_or(&"?").to_string(), length + 1));
        }
    }
    found
}

#[test]
fn every_file_is_reached_by_a_mod() {
    let all = sources(&["src", "net/src", "raft/src", "storage/src", "bench/sim"]);
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for (name, text) in &all {
        let path = Path::new(name);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let folder = path.parent().unwrap_or(Path::new(""));
        let below = if matches!(stem.as_ref(), "mod" | "lib" | "main") {
            folder.to_path_buf()
        } else {
            folder.join(stem.as_ref())
        };
        for (_, line) in code_lines(text) {
            let Some(module) = line.split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';')) else { continue };
            reached.insert(below.join(format!("{module}.rs")).to_string_lossy().into_owned());
            reached.insert(below.join(module).join("mod.rs").to_string_lossy().into_owned());
        }
    }
    let roots = |name: &&str| name.ends_with("lib.rs") || name.ends_with("main.rs");
    let orphans: Vec<&str> = names.iter().copied().filter(|name| !roots(name) && !reached.contains(*name)).collect();
    assert_eq!(orphans, Vec::<&str>::new());
}

#[test]
fn nothing_says_that_it_is_unfinished() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
    ];
    let mut wrong = Vec::new();
    for (name, text) in sources(&["src", "net", "raft", "storage", "bench", "tests"]) {
        for (at, line) in text.lines().enumerate() {
            wrong.extend(
                words.iter().filter(|word| line.contains(**word)).map(|word| format!("{name}:{}: {word}", at + 1)),
            );
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// README and everything below docs/, by path from the root.
fn pages() -> Vec<(String, String)> {
    let mut found = vec![PathBuf::from("README.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("a folder of pages").flatten();
        found.extend(entries.map(|entry| Path::new(folder).join(entry.file_name())));
    }
    found.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    let text = |page: &Path| fs::read_to_string(root().join(page)).expect("a page");
    found.iter().map(|page| (page.to_string_lossy().into_owned(), text(page))).collect()
}

#[test]
fn pages_name_only_files_that_exist() {
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for (at, piece) in text.split('`').enumerate() {
            let is_path = ["src/", "net/", "raft/", "storage/", "bench/", "configs/", "docs/", "tests/"]
                .iter()
                .any(|top| piece.starts_with(top));
            let plain = piece.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if at % 2 == 1 && is_path && plain && !root().join(piece).exists() {
                wrong.push(format!("{page}: {piece}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn links_of_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        let folder = root().join(&page).parent().expect("a page lies in a folder").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let outside = target.is_empty() || target.contains("://");
            if !outside && !folder.join(target).exists() {
                wrong.push(format!("{page}: {target}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn functions_are_measured_from_their_first_line_to_their_brace() {
    let text =
        "fn a() {\n    x\n}\nimpl B {\n    pub fn c(\n        d: u8,\n    ) {\n        if d {\n        }\n    }\n}\n";
    assert_eq!(functions(text), [("a()".to_owned(), 3), ("c(".to_owned(), 6)]);
}
