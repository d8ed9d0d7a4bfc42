//! `soundpost health`: asks the server that runs on this machine how it is, where there is no curl to do it.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use soundpost_server::{
    api::DEGRADED,
    config::{AdminSettings, ConfigError, Settings},
};

/// The server answers within milliseconds or not at all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Status, headers and one word or two.
const ANSWER_BYTES_MAX: u64 = 1024;

/// A server that is well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Healthy {
    /// Who was asked.
    pub(crate) address: SocketAddr,
    /// What it says of itself where it serves, but not as part of its cluster: one line.
    pub(crate) degraded: Option<&'static str>,
}

/// Why the server does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    /// They cannot be read, and a server with other ones does not answer either.
    #[error(transparent)]
    Settings(ConfigError),
    /// Then nobody but the server knows its port.
    #[error("admin.port is 0: where the server listens for this question cannot be known; write a port")]
    AnyPort,
    /// Nobody listens, or nobody answers.
    #[error("no answer from http://{address}/ready: {error}")]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// It runs, but new clients should go elsewhere; or something else listens there.
    #[error("http://{address}/ready answered {answer:?}")]
    Answer {
        /// Who was asked.
        address: SocketAddr,
        /// What a 503 says, or the status line.
        answer: String,
    },
}

/// Asks `/ready` of the admin listener, which is plain HTTP whatever the public one speaks.
///
/// Settings with a mistake are no reason to call a server dead: it refused them and runs with the ones before. It is
/// then asked where it listens by default.
pub(crate) fn ask(settings: Result<Settings, ConfigError>) -> Result<Healthy, HealthError> {
    match settings {
        Ok(settings) => ask_at(settings.server.admin),
        Err(error) => ask_at(AdminSettings::default()).map_err(|_| HealthError::Settings(error)),
    }
}

fn ask_at(admin: AdminSettings) -> Result<Healthy, HealthError> {
    let address = address_of(admin).ok_or(HealthError::AnyPort)?;
    let answer = answer(address).map_err(|error| HealthError::Silent { address, error })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let (status, body) = (head.lines().next().unwrap_or_default(), body.lines().next().unwrap_or_default());
    if status.starts_with("HTTP/1.1 200 ") {
        Ok(Healthy { address, degraded: (body == DEGRADED).then_some(DEGRADED) })
    } else {
        let is_ours = status.starts_with("HTTP/1.1 503 ") && !body.is_empty();
        let answer = if is_ours { body } else { status }.to_owned();
        Err(HealthError::Answer { address, answer })
    }
}

/// Where this machine reaches the listener.
fn address_of(admin: AdminSettings) -> Option<SocketAddr> {
    let host = match admin.host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host @ (IpAddr::V4(_) | IpAddr::V6(_)) => host,
    };
    (admin.port != 0).then_some(SocketAddr::new(host, admin.port))
}

fn answer(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(
        format!("GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// What is made of a server that answers with `answer`.
    fn asked_of(answer: &'static str) -> Result<Healthy, HealthError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let host = Ipv4Addr::UNSPECIFIED.into();
        let result = ask_at(AdminSettings { host, port, explicit: true });
        server.join().unwrap();
        result
    }

    #[test]
    fn only_200_is_healthy() {
        assert_eq!(asked_of("HTTP/1.1 200 OK\r\n\r\nready").unwrap().degraded, None);
        let degraded = asked_of("HTTP/1.1 200 OK\r\n\r\ndegraded: redis").unwrap().degraded;
        assert_eq!(degraded, Some("degraded: redis"));
        for (answer, told) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 404 Not Found"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\ndegraded: redis", "degraded: redis"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining", "draining"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 503 Service Unavailable"),
            ("", ""),
        ] {
            let error = asked_of(answer).unwrap_err().to_string();
            assert!(error.ends_with(&format!("/ready answered {told:?}")), "{error}");
        }
    }

    #[test]
    fn who_is_not_there_or_anywhere_is_not_alive() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = ask_at(AdminSettings { host: address.ip(), port: address.port(), explicit: true });
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("no answer from http://{address}/ready: ")), "{error}");
        let any = AdminSettings { host: Ipv6Addr::UNSPECIFIED.into(), port: 0, explicit: true };
        assert!(matches!(ask_at(any), Err(HealthError::AnyPort)));
        let any = AdminSettings { port: 7, ..any };
        assert_eq!(address_of(any).unwrap().to_string(), "[::1]:7");
    }
}
