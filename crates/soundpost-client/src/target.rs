//! Where a server is: `ws://HOST:PORT/PREFIX` or the same with `http://`.

use hyper::{Uri, http::uri::Authority};
use tokio::net::TcpStream;

use crate::ClientError;

/// A server's address and the prefix of its paths.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Host and port as they stand in the `Host` header.
    pub(crate) authority: Authority,
    /// Path and query as given, without a slash at the end.
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, ClientError> {
        let parsed = url.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("ws" | "http")));
        let Some((authority, uri)) = parsed.and_then(|uri| Some((uri.authority()?.clone(), uri))) else {
            return Err(ClientError::Url { url: url.to_owned() });
        };
        let path = uri.path_and_query().map_or("", |path| path.as_str()).trim_end_matches('/').to_owned();
        Ok(Self { authority, path })
    }

    /// A plain TCP connection that sends small writes at once.
    pub(crate) async fn connect(&self) -> Result<TcpStream, ClientError> {
        let host = self.authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.authority.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_with_a_host_are_taken() {
        for (url, path) in [
            ("ws://127.0.0.1:8080", ""),
            ("http://[::1]:80/", ""),
            ("ws://localhost/ws/", "/ws"),
            ("ws://h/a?b", "/a?b"),
        ] {
            assert_eq!(Target::parse(url).unwrap().path, path, "{url}");
        }
        for url in ["wss://localhost", "localhost:80", "/app/key", "", "ws://"] {
            assert!(matches!(Target::parse(url), Err(ClientError::Url { .. })), "{url}");
        }
    }
}
