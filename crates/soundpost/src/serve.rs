//! From settings to a running server, and its end by signal.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use soundpost_server::{config::Settings, reload::Reload, server::Server};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::notify::Notifier;

/// A file that is being read when the server ends, from a mount that does not answer, is not waited for any longer.
const READ_LINGER: Duration = Duration::from_millis(100);

/// Starts the server, tells `started` of it, and serves until a signal ends it.
pub(crate) fn serve(
    settings: Settings,
    reload: Reload,
    notifier: &Notifier,
    started: impl FnOnce(&Server),
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (stop, asked) = watch::channel(0);
        let signals = hear_signals(stop, Arc::clone(&reload.asked), notifier)?;
        let server = Server::bind(settings)?.reloading(reload);
        started(&server);
        notifier.ready();
        tokio::select! {
            ended = server.run(asked) => ended?,
            () = signals => {}
        }
        Ok(())
    });
    runtime.shutdown_timeout(READ_LINGER);
    ended
}

/// Counts what asks the server to stop, of which the first drains it and the second ends it at once, and passes on what
/// asks it to reload.
fn hear_signals(
    stop: watch::Sender<u32>,
    reload: Arc<Notify>,
    notifier: &Notifier,
) -> io::Result<impl Future<Output = ()>> {
    let has_terminal = io::stderr().is_terminal();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    // Whoever closes the terminal a server was started in does not want it to live on unseen.
                    if !has_terminal || io::stderr().is_terminal() {
                        reload.notify_one();
                        continue;
                    }
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            notifier.stopping();
            stop.send_modify(|asked| *asked += 1);
        }
    })
}
