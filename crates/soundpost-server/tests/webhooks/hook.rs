//! One webhook for a test, and the way to send to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use soundpost_protocol::{
    app::{App, AppId, AppKey, AppSecret},
    webhook::{
        HttpTarget,
        queue::{Attempt, RequestId},
        target::{ExtraHeaders, TargetUrl},
    },
};
use soundpost_server::webhook::http::{Answer, HttpCarrier, Trust};
use tokio::runtime::{Builder, Runtime};

use crate::receiver::DEADLINE;

/// What a test may set of a webhook.
pub(crate) struct Hook {
    pub(crate) target: HttpTarget,
    pub(crate) app: App,
    pub(crate) limit: Duration,
}

impl Hook {
    /// To this URL, with every default but the limit, which a busy machine may need more of.
    pub(crate) fn to(url: &str) -> Self {
        Self { target: target(url), app: app("one"), limit: DEADLINE }
    }

    pub(crate) fn headers<'a>(mut self, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.target.headers = ExtraHeaders::parse(headers).unwrap();
        self
    }

    pub(crate) fn ca(mut self, ca: PathBuf) -> Self {
        self.target.ca = Some(ca);
        self
    }

    pub(crate) fn refusing_private(mut self) -> Self {
        self.target.refuses_private = true;
        self
    }

    /// An attempt may take so long.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Ready to send.
    pub(crate) fn open(self) -> Sender {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let app = Arc::new(self.app);
        let carrier = HttpCarrier::new(&app, &self.target, Arc::new(Trust::default()), self.limit).unwrap();
        Sender { runtime, carrier }
    }
}

/// `app-one` with key `key-one` and secret `secret-one`, or another name.
pub(crate) fn app(name: &str) -> App {
    App::new(
        AppId::parse(&format!("app-{name}")).unwrap(),
        AppKey::parse(&format!("key-{name}")).unwrap(),
        AppSecret::new(&format!("secret-{name}")),
    )
}

pub(crate) fn target(url: &str) -> HttpTarget {
    HttpTarget {
        url: TargetUrl::parse(url).unwrap(),
        headers: ExtraHeaders::default(),
        ca: None,
        refuses_private: false,
    }
}

/// A carrier, and the thread it sends on.
pub(crate) struct Sender {
    runtime: Runtime,
    pub(crate) carrier: HttpCarrier,
}

impl Sender {
    /// Sends `body` once: status and beginning of the answer, or the line of the log.
    pub(crate) fn post(&self, body: &'static [u8]) -> Result<Answer, String> {
        let attempt = Attempt {
            request: RequestId(1),
            number: 1,
            body: Bytes::from_static(body),
            event_ids: "2f.1,2f.2".into(),
            events: 2,
        };
        self.runtime.block_on(self.carrier.post(&attempt, 100)).map_err(|problem| problem.to_string())
    }

    /// The status of an answer to a short body.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.post(b"{}").unwrap().status
    }

    /// The line of the log for an attempt that fails.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        self.post(b"{}").unwrap_err()
    }
}
