//! Who may come in, and as whom.
//!
//! User and password, or a token, plain or bcrypt. Plain secrets are compared in time that does not depend on where
//! they differ. A bcrypt check costs tens of milliseconds on purpose, on the core that asks; so a password that was
//! once found right is remembered by a seeded SHA-256 in memory only, and a client that comes back costs nothing. Wrong
//! ones are never remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

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
    token: Option<Checked>,
    no_auth_user: Option<String>,
    required: bool,
    /// Only operators have users: everybody else comes into `$G` unnamed (the peer's rule).
    open_global: bool,
    seed: u64,
}

/// One user. Two are equal when a client of the one may stay as the other.
#[derive(Debug)]
struct Login {
    secret: Checked,
    account: AccountId,
    permit: Option<Arc<Permit>>,
}

/// A secret and the last right answer to it.
#[derive(Debug)]
struct Checked {
    secret: Secret,
    right: Option<[u8; 32]>,
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
    /// `before` hands over what was already found right.
    pub fn new(config: &Config, accounts: &Accounts, seed: u64, before: Option<Gate>) -> Gate {
        let auth = &config.auth;
        let (mut known, token_before) = before.map_or((BTreeMap::new(), None), |gate| (gate.users, gate.token));
        let mut users = BTreeMap::new();
        for user in &auth.users {
            let Some(account) = accounts.id(&user.account) else { continue };
            users.insert(user.name.clone(), Login::new(user, account, known.remove(&user.name)));
        }
        let system = accounts.system();
        let all_system = !users.is_empty() && users.values().all(|login| Some(login.account) == system);
        Gate {
            open_global: all_system && auth.token.is_none() && auth.no_auth_user.is_none(),
            users,
            token: auth.token.as_ref().map(|secret| Checked::new(secret, token_before)),
            no_auth_user: auth.no_auth_user.clone(),
            required: auth.required(),
            seed,
        }
    }

    /// Whether a client must say CONNECT before anything else.
    pub fn required(&self) -> bool {
        self.required
    }

    /// What INFO says: with a `no_auth_user` clients need not present anything.
    pub fn announced(&self) -> bool {
        self.required && self.no_auth_user.is_none()
    }

    /// Lets a client in or not.
    pub fn check(&mut self, connect: &Connect) -> Option<Pass> {
        if !self.required || (self.open_global && !connect.has_credentials()) {
            return Some(Pass::nobody(connect));
        }
        if let Some(name) = self.no_auth_user.clone()
            && !connect.has_credentials()
            && let Some(login) = self.users.get(&name)
        {
            return Some(login.pass(&name));
        }
        if !connect.user.is_empty() {
            let seed = self.seed;
            let login = self.users.get_mut(&connect.user)?;
            return login.secret.is(&connect.password, seed).then(|| login.pass(&connect.user));
        }
        let seed = self.seed;
        let token = self.token.as_mut()?;
        token.is(&connect.token, seed).then(|| Pass {
            account: Accounts::GLOBAL,
            permit: None,
            user: connect.shown_user().to_string(),
            label: "token".to_string(),
        })
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
                self.users.get(name).filter(|login| login.secret.secret == *secret).map(|login| login.pass(name))
            }
            Standing::Token(secret) => {
                let same = self.token.as_ref().is_some_and(|token| token.secret == *secret);
                same.then(|| Pass {
                    account: Accounts::GLOBAL,
                    permit: None,
                    user: connect.shown_user().to_string(),
                    label: "token".to_string(),
                })
            }
        }
    }

    /// What a client that was just let in stands on.
    pub fn standing(&self, connect: &Connect) -> Standing {
        if !self.required || (self.open_global && !connect.has_credentials()) {
            return Standing::Nobody;
        }
        match (&self.no_auth_user, self.users.get(&connect.user), &self.token) {
            (Some(name), _, _) if !connect.has_credentials() => Standing::Unnamed(name.clone()),
            (_, Some(login), _) => Standing::User(connect.user.clone(), login.secret.secret.clone()),
            (_, None, Some(token)) => Standing::Token(token.secret.clone()),
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
}

impl Login {
    fn new(user: &User, account: AccountId, before: Option<Login>) -> Login {
        let secret = Checked::new(&user.password, before.map(|login| login.secret));
        let permit = user.permissions.as_ref().map(|permissions| Arc::new(Permit::new(Arc::new(permissions.clone()))));
        Login { secret, account, permit }
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

impl Checked {
    fn new(secret: &Secret, before: Option<Checked>) -> Checked {
        let right = before.filter(|checked| checked.secret == *secret).and_then(|checked| checked.right);
        Checked { secret: secret.clone(), right }
    }

    fn is(&mut self, given: &str, seed: u64) -> bool {
        let hash = match &self.secret {
            Secret::Plain(text) => return same(text.as_bytes(), given.as_bytes()),
            Secret::Bcrypt(hash) => hash,
        };
        let digest: [u8; 32] = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(given).finalize().into();
        if self.right.is_some_and(|right| same(&right, &digest)) {
            return true;
        }
        let right = bcrypt::verify(given, hash).unwrap_or(false);
        if right {
            self.right = Some(digest);
        }
        right
    }
}

/// Whether a password is the configured one, plain or bcrypt.
pub fn secret_matches(secret: &Secret, given: &str) -> bool {
    Checked::new(secret, None).is(given, 0)
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
        Gate::new(config, &Accounts::new(config), 1, None)
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
        let mut gate = gate(&config(vec![], None, None));
        assert!(!gate.required() && !gate.announced());
        let pass = gate.check(&connect("whoever", "x", "")).unwrap();
        assert_eq!((pass.account, pass.user.as_str()), (Accounts::GLOBAL, "whoever"));
    }

    #[test]
    fn users_need_their_password_and_get_their_account() {
        let config = config(vec![user("u", "p", "A")], None, None);
        let mut gate = gate(&config);
        assert!(gate.announced());
        assert_eq!(gate.check(&connect("u", "p", "")).unwrap().account, Accounts::new(&config).id("A").unwrap());
        for wrong in [
            connect("u", "q", ""),
            connect("u", "", ""),
            connect("v", "p", ""),
            connect("", "p", ""),
            connect("", "", ""),
        ] {
            assert!(gate.check(&wrong).is_none(), "{}/{}", wrong.user, wrong.password);
        }
    }

    #[test]
    fn a_token_is_taken_and_never_shown() {
        let mut gate = gate(&config(vec![], Some("tok"), None));
        assert_eq!(gate.check(&connect("", "", "tok")).unwrap().user, "[REDACTED]");
        assert!(gate.check(&connect("", "", "tok2")).is_none());
        assert!(gate.check(&connect("u", "p", "tok")).is_none());
    }

    #[test]
    fn bcrypt_answers_are_remembered_only_when_right() {
        let hash =
            bcrypt::hash_with_salt("pw", 4, *b"0123456789abcdef").unwrap().format_for_version(bcrypt::Version::TwoA);
        let config = config(vec![user("u", &hash, "A")], None, None);
        let mut first = gate(&config);
        assert!(first.check(&connect("u", "wrong", "")).is_none());
        assert!(first.users["u"].secret.right.is_none());
        assert!(first.check(&connect("u", "pw", "")).is_some());
        assert!(first.users["u"].secret.right.is_some());
        assert!(first.check(&connect("u", "pw", "")).is_some());
        assert!(first.check(&connect("u", "wrong", "")).is_none());
        let second = Gate::new(&config, &Accounts::new(&config), 1, Some(first));
        assert!(second.users["u"].secret.right.is_some());
    }

    #[test]
    fn the_user_for_those_without_credentials_needs_no_password() {
        let mut gate = gate(&config(vec![user("u", "p", "A"), user("v", "p", "A")], None, Some("v")));
        assert!(gate.required() && !gate.announced());
        assert_eq!(gate.check(&connect("", "", "")).unwrap().user, "v");
        assert!(gate.check(&connect("v", "", "")).is_none());
    }

    #[test]
    fn with_operators_only_everybody_else_stays_unnamed() {
        let mut gate = gate(&config(vec![user("admin", "p", "$SYS")], None, None));
        assert_eq!(gate.check(&connect("", "", "")).unwrap().account, Accounts::GLOBAL);
        assert!(gate.check(&connect("admin", "x", "")).is_none());
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
