//! How a create request is addressed: three subjects, each with its own idea of where the name is.
//!
//! ```text
//! CONSUMER.CREATE.<stream>                        ephemeral, the server or the body names it
//! CONSUMER.DURABLE.CREATE.<stream>.<durable>      durable, the body repeats the name
//! CONSUMER.CREATE.<stream>.<name>[.<filter>]      either, the subject names it
//! ```

use crate::api::errors::{self, ApiError};

use super::CreateRequest;

/// Which subject a create request came on, with what follows the stream's name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateForm<'a> {
    Ephemeral,
    Durable { name: &'a str },
    Named { name: &'a str, filter: &'a str },
}

impl CreateRequest {
    /// Checks the body against its subject and fills in the name that the subject gives. The name stays empty for an
    /// ephemeral consumer that the server is to name.
    pub fn addressed(mut self, stream: &str, form: CreateForm) -> Result<Self, ApiError> {
        if self.stream_name != stream {
            return Err(errors::STREAM_MISMATCH);
        }
        let name = match form {
            CreateForm::Ephemeral => self.config.name.clone(),
            CreateForm::Durable { name } | CreateForm::Named { name, .. } => name.to_owned(),
        };
        if name.contains(['\\', '/']) {
            return Err(errors::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
        }
        let durable = &self.config.durable_name;
        match form {
            CreateForm::Ephemeral if !durable.is_empty() => {
                return Err(errors::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME);
            }
            CreateForm::Durable { .. } if durable.is_empty() => return Err(errors::CONSUMER_DURABLE_NAME_NOT_SET),
            CreateForm::Durable { .. } | CreateForm::Named { .. } if !durable.is_empty() && *durable != name => {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
            }
            CreateForm::Named { filter, .. } if !filter.is_empty() => {
                if !self.config.filter_subjects.is_empty() {
                    return Err(errors::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
                }
                if self.config.filter_subject != filter {
                    return Err(errors::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH);
                }
            }
            _ => {}
        }
        self.config.name = name;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_create;
    use super::*;

    #[test]
    fn body_and_subject_must_agree() {
        let named = |name, filter| CreateForm::Named { name, filter };
        let cases = [
            (r#"{"stream_name":"X"}"#, CreateForm::Ephemeral, Err(10056)),
            (r#"{"stream_name":"S"}"#, CreateForm::Ephemeral, Ok("")),
            (r#"{"stream_name":"S","config":{"name":"e"}}"#, CreateForm::Ephemeral, Ok("e")),
            (r#"{"stream_name":"S","config":{"durable_name":"d"}}"#, CreateForm::Ephemeral, Err(10020)),
            (r#"{"stream_name":"S"}"#, CreateForm::Durable { name: "d" }, Err(10018)),
            (r#"{"stream_name":"S","config":{"durable_name":"e"}}"#, CreateForm::Durable { name: "d" }, Err(10017)),
            (r#"{"stream_name":"S","config":{"durable_name":"d"}}"#, CreateForm::Durable { name: "d" }, Ok("d")),
            (r#"{"stream_name":"S","config":{"durable_name":"e"}}"#, named("d", ""), Err(10017)),
            (r#"{"stream_name":"S","config":{"name":"other"}}"#, named("d", ""), Ok("d")),
            (r#"{"stream_name":"S"}"#, named("a/b", ""), Err(10127)),
            (r#"{"stream_name":"S","config":{"filter_subject":"a.*"}}"#, named("d", "a.*"), Ok("d")),
            (r#"{"stream_name":"S","config":{"filter_subject":"a.*"}}"#, named("d", "a.b"), Err(10131)),
            (r#"{"stream_name":"S","config":{"filter_subjects":["a"]}}"#, named("d", "a"), Err(10137)),
        ];
        for (body, form, expected) in cases {
            let request = parse_create(body.as_bytes(), true).expect(body);
            let result =
                request.addressed("S", form).map(|request| request.config.name).map_err(|error| error.err_code);
            assert_eq!(result, expected.map(str::to_owned), "{body} {form:?}");
        }
    }
}
