//! How one webhook is told: one attempt at a time, and what came of it.

use std::fmt;

use soundpost_protocol::webhook::queue::{Attempt, Outcome};

use super::{http::HttpCarrier, laravel::LaravelCarrier};

/// Why an attempt had no answer: a line for the log that says what to look at. It holds no secret, no query, no header
/// and nothing of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// Of lower case, without a full stop.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One webhook's way to its receiver, under the settings of one moment. A reload makes another; attempts that are under
/// way end with the one they began with.
#[derive(Debug)]
pub enum Carrier {
    /// By requests to a URL.
    Http(Box<HttpCarrier>),
    /// By jobs for Laravel's workers.
    Laravel(Box<LaravelCarrier>),
    /// There is none, because of this.
    Unable(Problem),
    /// Whatever a test wants.
    #[cfg(test)]
    #[expect(private_interfaces, reason = "nobody but tests has this variant")]
    Scripted(tests::Script),
}

impl Carrier {
    /// Sends once. Comes to an end by itself, at the latest after
    /// [`ATTEMPT_TIMEOUT`](soundpost_protocol::webhook::queue::ATTEMPT_TIMEOUT). Where it is dropped before, the receiver
    /// may have taken the events or not.
    ///
    /// Errors: there was no answer, which counts as [`Outcome::Unanswered`].
    pub async fn send(&self, attempt: &Attempt) -> Result<Outcome, Problem> {
        match self {
            Self::Http(http) => http.post(attempt, 0).await.map(|answer| Outcome::Status(answer.status)),
            Self::Laravel(laravel) => {
                laravel.send(attempt).await.map_err(|error| Problem::new(error.to_string()))
            }
            Self::Unable(problem) => Err(problem.clone()),
            #[cfg(test)]
            Self::Scripted(script) => script.send(attempt).await,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{future::Future, pin::Pin};

    use super::*;

    type Answer = Pin<Box<dyn Future<Output = Result<Outcome, Problem>> + Send>>;

    /// Does with each attempt what it is told to.
    pub(crate) struct Script(Box<dyn Fn(Attempt) -> Answer + Send + Sync>);

    impl Script {
        pub(crate) fn new<F>(send: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Self
        where
            F: Future<Output = Result<Outcome, Problem>> + Send + 'static,
        {
            Self(Box::new(move |attempt| Box::pin(send(attempt))))
        }

        pub(super) async fn send(&self, attempt: &Attempt) -> Result<Outcome, Problem> {
            (self.0)(attempt.clone()).await
        }
    }

    impl fmt::Debug for Script {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Script")
        }
    }
}
