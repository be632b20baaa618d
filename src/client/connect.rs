//! What a client says in CONNECT.
//!
//! A second CONNECT changes only what it names. Names of fields are taken in any case and unknown ones are passed
//! over; a value of the wrong type is an error that ends the connection, all as the peer has it.

use serde_json::Value;

/// A client's wishes and credentials; the defaults are those of a client that has not said CONNECT yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    pub verbose: bool,
    pub pedantic: bool,
    pub echo: bool,
    pub headers: bool,
    pub no_responders: bool,
    /// 0 or 1; 1 takes INFO at any time.
    pub protocol: i64,
    pub user: String,
    pub password: String,
    pub token: String,
    pub name: String,
    pub lang: String,
    pub version: String,
    /// Was once a way to make up accounts; asking for it is refused.
    pub account: String,
    pub account_new: bool,
}

impl Default for Connect {
    fn default() -> Connect {
        Connect {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            user: String::new(),
            password: String::new(),
            token: String::new(),
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            account: String::new(),
            account_new: false,
        }
    }
}

/// Never shows credentials.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connect({:?}, {:?}, {:?})", self.name, self.lang, self.version)
    }
}

impl Connect {
    /// Takes over what the JSON names. The error is for the log; the client hears nothing, as from the peer.
    pub fn apply(&mut self, json: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(json);
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("bad CONNECT: {error}"))?;
        match value {
            Value::Object(fields) => fields.iter().try_for_each(|(name, value)| self.set(name, value)),
            Value::Null => Ok(()),
            _ => Err("bad CONNECT: not an object".to_string()),
        }
    }

    /// Whether the client presented anything to be known by.
    pub fn has_credentials(&self) -> bool {
        !(self.user.is_empty() && self.password.is_empty() && self.token.is_empty())
    }

    /// The user as pages and logs may show it; a token is never shown.
    pub fn shown_user(&self) -> &str {
        match (self.user.is_empty(), self.token.is_empty()) {
            (false, _) => &self.user,
            (true, false) => "[REDACTED]",
            (true, true) => "",
        }
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        if value.is_null() {
            return Ok(());
        }
        match name.to_ascii_lowercase().as_str() {
            "verbose" => flag(name, value, &mut self.verbose),
            "pedantic" => flag(name, value, &mut self.pedantic),
            "echo" => flag(name, value, &mut self.echo),
            "headers" => flag(name, value, &mut self.headers),
            "no_responders" => flag(name, value, &mut self.no_responders),
            "new_account" => flag(name, value, &mut self.account_new),
            "tls_required" => flag(name, value, &mut false),
            "protocol" => number(name, value, &mut self.protocol),
            "user" => text(name, value, &mut self.user),
            "pass" => text(name, value, &mut self.password),
            "auth_token" => text(name, value, &mut self.token),
            "name" => text(name, value, &mut self.name),
            "lang" => text(name, value, &mut self.lang),
            "version" => text(name, value, &mut self.version),
            "account" => text(name, value, &mut self.account),
            "nkey" | "jwt" | "sig" | "remote_account" | "proxy_sig" => text(name, value, &mut String::new()),
            _ => Ok(()),
        }
    }
}

fn flag(name: &str, value: &Value, to: &mut bool) -> Result<(), String> {
    *to = value.as_bool().ok_or_else(|| wrong(name, "true or false"))?;
    Ok(())
}

fn number(name: &str, value: &Value, to: &mut i64) -> Result<(), String> {
    *to = value.as_i64().ok_or_else(|| wrong(name, "a whole number"))?;
    Ok(())
}

fn text(name: &str, value: &Value, to: &mut String) -> Result<(), String> {
    *to = value.as_str().ok_or_else(|| wrong(name, "a string"))?.to_string();
    Ok(())
}

fn wrong(name: &str, wanted: &str) -> String {
    format!("bad CONNECT: {name} is not {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_in_any_case_and_kept_when_not_named() {
        let mut connect = Connect::default();
        connect.apply(br#"{"Verbose":false,"USER":"u","pass":"p","echo":false,"x":{"y":[1]},"name":null}"#).unwrap();
        assert!(!connect.verbose && connect.pedantic && !connect.echo);
        assert_eq!((connect.user.as_str(), connect.shown_user()), ("u", "u"));
        connect.apply(br#"{"pedantic":false}"#).unwrap();
        assert!(!connect.verbose && !connect.pedantic);
        assert_eq!(connect.user, "u");
    }

    #[test]
    fn wrong_types_and_broken_json_are_errors() {
        for bad in [
            &br#"{"verbose":1}"#[..],
            br#"{"protocol":"1"}"#,
            br#"{"protocol":1.5}"#,
            br#"{"user":7}"#,
            br#"{"sig":7}"#,
            b"{]",
            b"",
            b"[]",
            b"{} x",
            b"\xff\xfe",
        ] {
            assert!(Connect::default().apply(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(Connect::default().apply(b"null").is_ok());
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = [b"{\"x\":".as_slice(), &[b'['; 4000]].concat();
        assert!(Connect::default().apply(&deep).is_err());
    }

    #[test]
    fn credentials_do_not_show() {
        let mut connect = Connect::default();
        assert!(!connect.has_credentials());
        connect.apply(br#"{"auth_token":"secret","pass":"secret"}"#).unwrap();
        assert!(connect.has_credentials());
        assert_eq!(connect.shown_user(), "[REDACTED]");
        assert!(!format!("{connect:?}").contains("secret"));
    }
}
