//! `$SYS.REQ.USER.INFO`: a client asks who it is. The core that holds its connection answers, and no other.

use serde::Serialize;

use crate::client::ClientFacts;
use crate::config::options::{Permissions, SubjectRules};

#[derive(Debug, PartialEq, Serialize)]
pub struct UserInfo {
    user: String,
    account: String,
    account_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Shown>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Shown {
    publish: Rules,
    subscribe: Rules,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<Responses>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Rules {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Responses {
    /// -1: as many as it likes.
    max: i64,
    /// Nanoseconds; -1: for ever.
    ttl: i64,
}

impl UserInfo {
    pub fn new(client: &ClientFacts) -> UserInfo {
        UserInfo {
            user: client.user.clone(),
            account: client.account_name.clone(),
            account_name: client.account_name.clone(),
            permissions: client.permissions.as_deref().map(Shown::new),
        }
    }
}

impl Shown {
    fn new(permissions: &Permissions) -> Shown {
        let rules = |rules: &SubjectRules| Rules { allow: rules.allow.clone(), deny: rules.deny.clone() };
        Shown {
            publish: rules(&permissions.publish),
            subscribe: rules(&permissions.subscribe),
            responses: permissions.responses.as_ref().map(|rule| Responses {
                max: rule.messages_max.map_or(-1, i64::from),
                ttl: rule.expires.map_or(-1, |ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::options::ResponseRule;
    use crate::system::fixture::client;

    #[test]
    fn permissions_are_only_shown_to_those_who_are_bound_by_them() {
        let free = serde_json::to_value(UserInfo::new(&client())).unwrap();
        assert_eq!(free, serde_json::json!({"user": "acc1", "account": "ACC1", "account_name": "ACC1"}));
        let publish = SubjectRules { allow: Some(vec!["a.>".into()]), deny: vec!["a.b".into()] };
        let permissions = Permissions { publish, responses: Some(ResponseRule::default()), ..Permissions::default() };
        let bound = ClientFacts { permissions: Some(Arc::new(permissions)), ..client() };
        let shown = serde_json::to_value(UserInfo::new(&bound)).unwrap();
        let wanted = serde_json::json!({
            "publish": {"allow": ["a.>"], "deny": ["a.b"]}, "subscribe": {},
            "responses": {"max": 1, "ttl": 120_000_000_000_i64},
        });
        assert_eq!(shown["permissions"], wanted);
    }
}
