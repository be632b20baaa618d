//! `host:port` taken apart again.

/// The host without brackets, and the port; 0 when there is none.
pub fn split(url: &str) -> (&str, u16) {
    let Some((host, port)) = url.rsplit_once(':') else { return (url, 0) };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (url, parts) in [
            ("127.0.0.1:4222", ("127.0.0.1", 4222)),
            ("[::1]:4222", ("::1", 4222)),
            ("host", ("host", 0)),
            ("host:x", ("host", 0)),
            ("", ("", 0)),
        ] {
            assert_eq!(split(url), parts);
        }
    }
}
