//! From settings to a running server, and its end by signal.

use std::net::SocketAddr;

use soundpost_server::{config::Settings, server::Server};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::notify::Notifier;

/// Starts the server, tells `started` where it listens, and serves until a signal ends it.
pub(crate) fn serve(
    settings: Settings,
    notifier: &Notifier,
    started: impl FnOnce(&[SocketAddr], Option<SocketAddr>),
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind(settings)?;
        let (stop, asked) = watch::channel(0);
        let signals = count_signals(stop, notifier)?;
        started(server.addresses(), server.admin_address());
        notifier.ready();
        tokio::select! {
            ended = server.run(asked) => ended?,
            () = signals => {}
        }
        Ok(())
    })
}

/// Counts what asks the server to stop: the first signal drains it, the second ends it at once.
fn count_signals(stop: watch::Sender<u32>, notifier: &Notifier) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            notifier.stopping();
            stop.send_modify(|asked| *asked += 1);
        }
    })
}
