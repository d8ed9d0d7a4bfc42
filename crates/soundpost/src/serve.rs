//! Stand-in until `soundpost_server::server` is here: binds the addresses, so that a port in use is seen, and ends.
//! To be replaced by `Server::bind(settings)`, `banner(server.addresses(), server.admin_address())`, `server.run()`.

use std::net::{SocketAddr, TcpListener};

use soundpost_server::config::Settings;

/// Binds, tells `started` the addresses and returns.
#[expect(clippy::needless_pass_by_value, reason = "the server will keep the settings")]
pub(crate) fn serve(
    settings: Settings,
    started: impl FnOnce(&[SocketAddr], Option<SocketAddr>),
) -> Result<(), Box<dyn std::error::Error>> {
    let mut listeners = Vec::new();
    for listen in &settings.server.listen {
        match TcpListener::bind(listen.address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if listen.required => {
                return Err(format!("cannot listen on {}: {error}", listen.address).into());
            }
            Err(error) => tracing::debug!("not listening on {}: {error}", listen.address),
        }
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    started(&addresses, None);
    Ok(())
}
