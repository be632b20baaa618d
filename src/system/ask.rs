//! Which page a `$SYS.REQ` subject asks for, and on which subjects a server listens.

use super::envelope::Blank;
use super::page::{ACCOUNT_PAGES, AccountStatzOptions, ConnzOptions, Page, SERVER_PAGES, SERVER_WISHES, read};

/// What a request's subject and body mean.
#[derive(Debug, PartialEq)]
pub enum Ask {
    Page(Page),
    /// The body is no JSON or has wrong types; why, and what the answer has for a page.
    Bad {
        why: String,
        data: Blank,
    },
    /// For another server, or nothing that this one knows.
    Unknown,
}

/// A request of the system account.
pub fn of_system(server_id: &str, subject: &str, body: &[u8]) -> Ask {
    let mut words = subject.strip_prefix("$SYS.REQ.").unwrap_or("").split('.');
    let found = match (words.next(), words.next(), words.next(), words.next()) {
        (Some("SERVER"), Some("PING"), None, None) => Page::parse("STATSZ", body),
        (Some("SERVER"), Some(to), Some(name), None) if to == "PING" || to == server_id => {
            return of(Page::parse(name, body), if name == "JSZ" { Blank::Empty } else { Blank::Absent });
        }
        (Some("ACCOUNT"), Some("PING"), Some("STATZ"), None) => Some(read(body).map(Page::AccountStatz)),
        (Some("ACCOUNT"), Some(account), Some(name), None) => Page::parse_account(name, account, body),
        _ => None,
    };
    of(found, Blank::Absent)
}

/// A request from inside any account, which is about that account whatever it says.
pub fn of_account(account: &str, subject: &str, body: &[u8]) -> Ask {
    let account = account.to_owned();
    let found = match subject {
        "$SYS.REQ.ACCOUNT.PING.CONNZ" | "$SYS.REQ.SERVER.PING.CONNZ" => {
            Some(read(body).map(|options| Page::Connz(ConnzOptions { acc: account, ..options })))
        }
        "$SYS.REQ.ACCOUNT.PING.STATZ" => Some(
            read(body).map(|options| Page::AccountStatz(AccountStatzOptions { accounts: vec![account], ..options })),
        ),
        _ => None,
    };
    of(found, Blank::Absent)
}

fn of(found: Option<Result<Page, String>>, data: Blank) -> Ask {
    match found {
        None => Ask::Unknown,
        Some(Ok(page)) => Ask::Page(page),
        Some(Err(why)) => Ask::Bad { why, data },
    }
}

/// What the system account asks of this server. One subject per page: a name that nobody knows finds no responders.
pub fn system_subjects(server_id: &str) -> Vec<String> {
    let mut subjects = vec!["$SYS.REQ.SERVER.PING".to_owned()];
    subjects.extend(SERVER_PAGES.iter().map(|name| format!("$SYS.REQ.SERVER.PING.{name}")));
    let own = SERVER_PAGES.iter().chain(SERVER_WISHES);
    subjects.extend(own.map(|name| format!("$SYS.REQ.SERVER.{server_id}.{name}")));
    subjects.extend(ACCOUNT_PAGES.iter().map(|name| format!("$SYS.REQ.ACCOUNT.*.{name}")));
    subjects
}

/// What any other account may ask about itself.
pub const ACCOUNT_SUBJECTS: &[&str] =
    &["$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.STATZ", "$SYS.REQ.SERVER.PING.CONNZ"];

pub const USER_INFO: &str = "$SYS.REQ.USER.INFO";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_that_is_listened_on_is_understood() {
        for subject in system_subjects("NID") {
            let subject = subject.replace('*', "ACC");
            assert!(matches!(of_system("NID", &subject, b""), Ask::Page(_)), "{subject}");
        }
        for subject in ACCOUNT_SUBJECTS {
            assert!(matches!(of_account("ACC", subject, b"{}"), Ask::Page(_)), "{subject}");
        }
    }

    #[test]
    fn other_servers_and_other_words_are_not_ours() {
        for subject in ["$SYS.REQ.SERVER.OTHER.VARZ", "$SYS.REQ.SERVER", "$SYS.REQ.SERVER.PING.VARZ.X", "a", ""] {
            assert_eq!(of_system("NID", subject, b""), Ask::Unknown, "{subject}");
        }
        assert_eq!(of_account("ACC", "$SYS.REQ.SERVER.PING.VARZ", b""), Ask::Unknown);
    }

    #[test]
    fn an_account_cannot_ask_about_another() {
        let Ask::Page(Page::Connz(options)) = of_account("A", "$SYS.REQ.ACCOUNT.PING.CONNZ", br#"{"acc":"B"}"#) else {
            panic!()
        };
        assert_eq!(options.acc, "A");
    }

    #[test]
    fn readers_of_jsz_insist_on_data() {
        assert!(matches!(of_system("N", "$SYS.REQ.SERVER.PING.JSZ", b"{x"), Ask::Bad { data: Blank::Empty, .. }));
        assert!(matches!(of_system("N", "$SYS.REQ.SERVER.PING.CONNZ", b"{x"), Ask::Bad { data: Blank::Absent, .. }));
    }
}
