//! Who may come in, and as whom.
//!
//! User and password, or a token, plain or bcrypt. Plain secrets are compared in time that does not depend on where
//! they differ. A bcrypt comparison costs tens of milliseconds on purpose, so it is not made here: the gate says what has
//! to be compared, the shell does it beside the cores, and the gate is asked again with what was proven.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connect::Connect;
use super::permit::Permit;
use crate::account::Accounts;
use crate::config::Config;
use crate::config::options::{Secret, User};
use crate::ids::AccountId;

/// The users of the configuration, made ready.
#[derive(Debug)]
pub struct Gate {
    users: BTreeMap<String, Login>,
    token: Option<Secret>,
    no_auth_user: Option<String>,
    required: bool,
    /// Only operators have users: everybody else comes into `$G` unnamed (the peer's rule).
    open_global: bool,
}

/// One user. Two are equal when a client of the one may stay as the other.
#[derive(Debug)]
struct Login {
    secret: Secret,
    account: AccountId,
    permit: Option<Arc<Permit>>,
}

/// A password or token that somebody presented, and what it is compared with.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    pub secret: Secret,
    pub given: String,
}

/// Never shows what was given.
impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({:?})", self.secret)
    }
}

/// What the gate says to a client.
#[derive(Debug)]
pub enum Verdict {
    In(Pass),
    Out,
    /// It depends on a comparison that takes long.
    Compare(Claim),
}

/// What a client that was let in is.
#[derive(Debug, Clone)]
pub struct Pass {
    pub account: AccountId,
    pub permit: Option<Arc<Permit>>,
    /// For pages and logs.
    pub user: String,
    /// Behind the account in log lines: `user:x`, `token` or nothing.
    pub label: String,
}

impl Gate {
    pub fn new(config: &Config, accounts: &Accounts) -> Gate {
        let auth = &config.auth;
        let mut users = BTreeMap::new();
        for user in &auth.users {
            let Some(account) = accounts.id(&user.account) else { continue };
            users.insert(user.name.clone(), Login::new(user, account));
        }
        let system = accounts.system();
        let all_system = !users.is_empty() && users.values().all(|login| Some(login.account) == system);
        Gate {
            open_global: all_system && auth.token.is_none() && auth.no_auth_user.is_none(),
            users,
            token: auth.token.clone(),
            no_auth_user: auth.no_auth_user.clone(),
            required: auth.required(),
        }
    }

    /// Whether a client must say CONNECT before anything else.
    pub fn required(&self) -> bool {
        self.required
    }

    /// Whether nobody comes in without CONNECT: then anything else is refused at its first byte.
    pub fn is_closed(&self) -> bool {
        self.required && self.no_auth_user.is_none() && !self.open_global
    }

    /// What INFO says: with a `no_auth_user` clients need not present anything.
    pub fn announced(&self) -> bool {
        self.required && self.no_auth_user.is_none()
    }

    /// Lets a client in or not. `proven`: what it presents was found to be this secret.
    pub fn check(&self, connect: &Connect, proven: Option<&Secret>) -> Verdict {
        if !self.required || (self.open_global && !connect.has_credentials()) {
            return Verdict::In(Pass::nobody(connect));
        }
        if let Some(name) = &self.no_auth_user
            && !connect.has_credentials()
            && let Some(login) = self.users.get(name)
        {
            return Verdict::In(login.pass(name));
        }
        // Where there are no users a name beside the token means nothing.
        if !connect.user.is_empty() && !self.users.is_empty() {
            let Some(login) = self.users.get(&connect.user) else { return Verdict::Out };
            return judge(&login.secret, &connect.password, proven, || login.pass(&connect.user));
        }
        let Some(token) = &self.token else { return Verdict::Out };
        judge(token, &connect.token, proven, || Pass::token(connect))
    }

    /// What a client that is in becomes under this configuration, its password having been right under `before`.
    /// `None`: it must go.
    pub fn renew(&self, before: &Standing, connect: &Connect) -> Option<Pass> {
        match before {
            Standing::Nobody => (!self.required || self.open_global).then(|| Pass::nobody(connect)),
            Standing::Unnamed(name) => {
                (self.no_auth_user.as_ref() == Some(name)).then(|| self.users.get(name)).flatten().map(|l| l.pass(name))
            }
            Standing::User(name, secret) => {
                self.users.get(name).filter(|login| login.secret == *secret).map(|login| login.pass(name))
            }
            Standing::Token(secret) => (self.token.as_ref() == Some(secret)).then(|| Pass::token(connect)),
        }
    }

    /// What a client that was just let in stands on.
    pub fn standing(&self, connect: &Connect) -> Standing {
        if !self.required || (self.open_global && !connect.has_credentials()) {
            return Standing::Nobody;
        }
        match (&self.no_auth_user, self.users.get(&connect.user), &self.token) {
            (Some(name), _, _) if !connect.has_credentials() => Standing::Unnamed(name.clone()),
            (_, Some(login), _) => Standing::User(connect.user.clone(), login.secret.clone()),
            (_, None, Some(token)) => Standing::Token(token.clone()),
            _ => Standing::Nobody,
        }
    }
}

/// On what ground a client is in; compared with the next configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Nobody,
    Unnamed(String),
    User(String, Secret),
    Token(Secret),
}

impl Pass {
    /// Where nothing has to be presented; what was presented all the same is shown but not checked, as by the peer.
    pub fn nobody(connect: &Connect) -> Pass {
        let user = connect.shown_user().to_string();
        let label = match (connect.user.is_empty(), user.is_empty()) {
            (false, _) => format!("user:{user}"),
            (true, false) => "token".to_string(),
            (true, true) => String::new(),
        };
        Pass { account: Accounts::GLOBAL, permit: None, user, label }
    }

    fn token(connect: &Connect) -> Pass {
        let (user, label) = (connect.shown_user().to_string(), "token".to_string());
        Pass { account: Accounts::GLOBAL, permit: None, user, label }
    }
}

impl Login {
    fn new(user: &User, account: AccountId) -> Login {
        let permit = user.permissions.as_ref().map(|permissions| Arc::new(Permit::new(Arc::new(permissions.clone()))));
        Login { secret: user.password.clone(), account, permit }
    }

    fn pass(&self, name: &str) -> Pass {
        Pass {
            account: self.account,
            permit: self.permit.clone(),
            user: name.to_string(),
            label: format!("user:{name}"),
        }
    }
}

fn judge(secret: &Secret, given: &str, proven: Option<&Secret>, pass: impl FnOnce() -> Pass) -> Verdict {
    match secret {
        Secret::Plain(text) if same(text.as_bytes(), given.as_bytes()) => Verdict::In(pass()),
        Secret::Plain(_) => Verdict::Out,
        Secret::Bcrypt(_) if proven == Some(secret) => Verdict::In(pass()),
        Secret::Bcrypt(_) => Verdict::Compare(Claim { secret: secret.clone(), given: given.to_string() }),
    }
}

/// Whether a password is the configured one, plain or bcrypt; the latter takes tens of milliseconds.
pub fn secret_matches(secret: &Secret, given: &str) -> bool {
    match secret {
        Secret::Plain(text) => same(text.as_bytes(), given.as_bytes()),
        Secret::Bcrypt(hash) => bcrypt::verify(given, hash).unwrap_or(false),
    }
}

/// Equality in time that depends on the lengths only.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0, |sum: u8, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0 && left.len() == right.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Account, Auth};

    fn user(name: &str, password: &str, account: &str) -> User {
        User {
            name: name.to_string(),
            password: Secret::new(password.to_string()),
            account: account.to_string(),
            permissions: None,
        }
    }

    fn config(users: Vec<User>, token: Option<&str>, no_auth_user: Option<&str>) -> Config {
        let auth = Auth {
            users,
            token: token.map(|token| Secret::new(token.to_string())),
            no_auth_user: no_auth_user.map(str::to_string),
            ..Auth::default()
        };
        Config { auth, accounts: vec![Account { name: "A".to_string(), ..Account::default() }], ..Config::default() }
    }

    fn gate(config: &Config) -> Gate {
        Gate::new(config, &Accounts::new(config))
    }

    fn enter(gate: &Gate, connect: &Connect) -> Option<Pass> {
        match gate.check(connect, None) {
            Verdict::In(pass) => Some(pass),
            _ => None,
        }
    }

    fn connect(user: &str, password: &str, token: &str) -> Connect {
        Connect {
            user: user.to_string(),
            password: password.to_string(),
            token: token.to_string(),
            ..Connect::default()
        }
    }

    #[test]
    fn without_users_everybody_comes_into_the_global_account() {
        let gate = gate(&config(vec![], None, None));
        assert!(!gate.required() && !gate.announced());
        let pass = enter(&gate, &connect("whoever", "x", "")).unwrap();
        assert_eq!((pass.account, pass.user.as_str()), (Accounts::GLOBAL, "whoever"));
    }

    #[test]
    fn users_need_their_password_and_get_their_account() {
        let config = config(vec![user("u", "p", "A")], None, None);
        let gate = gate(&config);
        assert!(gate.announced());
        assert_eq!(enter(&gate, &connect("u", "p", "")).unwrap().account, Accounts::new(&config).id("A").unwrap());
        for wrong in [
            connect("u", "q", ""),
            connect("u", "", ""),
            connect("v", "p", ""),
            connect("", "p", ""),
            connect("", "", ""),
        ] {
            assert!(enter(&gate, &wrong).is_none(), "{}/{}", wrong.user, wrong.password);
        }
    }

    #[test]
    fn a_token_is_taken_and_never_shown() {
        let gate = gate(&config(vec![], Some("tok"), None));
        assert_eq!(enter(&gate, &connect("", "", "tok")).unwrap().user, "[REDACTED]");
        assert!(enter(&gate, &connect("", "", "tok2")).is_none());
        assert_eq!(enter(&gate, &connect("u", "p", "tok")).unwrap().user, "u");
        assert!(enter(&gate, &connect("u", "tok", "")).is_none());
    }

    #[test]
    fn a_hashed_password_is_compared_elsewhere_and_proves_only_itself() {
        let hash = |salt: &[u8; 16]| {
            let parts = bcrypt::hash_with_salt("pw", 4, *salt).unwrap();
            parts.format_for_version(bcrypt::Version::TwoA)
        };
        let (one, other) = (hash(b"0123456789abcdef"), hash(b"fedcba9876543210"));
        let gate = gate(&config(vec![user("u", &one, "A")], None, None));
        let Verdict::Compare(claim) = gate.check(&connect("u", "pw", ""), None) else { panic!() };
        assert_eq!((claim.secret.text(), claim.given.as_str()), (one.as_str(), "pw"));
        assert!(secret_matches(&claim.secret, "pw") && !secret_matches(&claim.secret, "wrong"));
        assert!(!format!("{claim:?}").contains("pw"));
        assert!(matches!(gate.check(&connect("u", "pw", ""), Some(&claim.secret)), Verdict::In(_)));
        // The configuration was changed meanwhile.
        let old = Secret::new(other);
        assert!(matches!(gate.check(&connect("u", "pw", ""), Some(&old)), Verdict::Compare(_)));
        assert!(matches!(gate.check(&connect("v", "pw", ""), Some(&claim.secret)), Verdict::Out));
    }

    #[test]
    fn the_user_for_those_without_credentials_needs_no_password() {
        let gate = gate(&config(vec![user("u", "p", "A"), user("v", "p", "A")], None, Some("v")));
        assert!(gate.required() && !gate.announced());
        assert_eq!(enter(&gate, &connect("", "", "")).unwrap().user, "v");
        assert!(enter(&gate, &connect("v", "", "")).is_none());
    }

    #[test]
    fn with_operators_only_everybody_else_stays_unnamed() {
        let gate = gate(&config(vec![user("admin", "p", "$SYS")], None, None));
        assert_eq!(enter(&gate, &connect("", "", "")).unwrap().account, Accounts::GLOBAL);
        assert!(enter(&gate, &connect("admin", "x", "")).is_none());
        assert!(gate.announced());
    }

    #[test]
    fn a_changed_password_or_a_lost_user_ends_the_standing() {
        let before = gate(&config(vec![user("u", "p", "A"), user("v", "p", "A")], None, None));
        let named = connect("u", "p", "");
        let standing = before.standing(&named);
        assert!(before.renew(&standing, &named).is_some());
        let other = gate(&config(vec![user("u", "new", "A")], None, None));
        assert!(other.renew(&standing, &named).is_none());
        let open = gate(&config(vec![], None, None));
        assert!(open.renew(&standing, &named).is_none());
        assert!(other.renew(&Standing::Nobody, &connect("", "", "")).is_none());
    }
}
