//! `soundpost webhook-test`: tells each webhook of an app one made-up event, and prints what came of it.

use std::{
    error::Error,
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use soundpost_server::{
    config::Settings,
    webhook::trial::{Told, Trial, place},
};

use crate::arguments::WebhookTestFlags;

/// Characters of an answer that are shown.
const ANSWER_CHARS_MAX: usize = 300;

/// What was asked for is not there. One line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Absent {
    #[error("there is no app {asked:?}; there is {}", ids.join(", "))]
    App { asked: String, ids: Vec<String> },
    #[error("app {app} has no webhooks; write them as [[apps.webhooks]]")]
    Webhooks { app: String },
    #[error("app {app} has no webhook {asked}; the last is {last}")]
    Webhook { app: String, asked: usize, last: usize },
}

/// Tells one webhook after the other, and prints each as it goes; whether all have taken the event.
///
/// Errors: no such app or webhook; the output cannot be written.
pub(crate) fn tell(settings: &Settings, flags: &WebhookTestFlags) -> Result<bool, Box<dyn Error>> {
    let Some(app) = settings.apps.iter().find(|app| app.id.as_str() == flags.app) else {
        let ids = settings.apps.iter().map(|app| app.id.to_string()).collect();
        return Err(Absent::App { asked: flags.app.clone(), ids }.into());
    };
    let app = Arc::new(app.clone());
    let numbers = chosen(app.id.as_str(), app.webhooks.len(), flags.webhook)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis = settings.redis.as_ref();
    let mut took_it = 0;
    for (number, webhook) in app.webhooks.iter().enumerate().filter(|(number, _)| numbers.contains(number)) {
        print(&format!("webhook {number} of app {}: {}\n", app.id, place(webhook, redis)))?;
        let Some(trial) = Trial::new(&app, webhook)? else {
            print("  nothing sent: no channel that its filter lets through can have one of its events\n")?;
            continue;
        };
        print(&format!("  sending {}\n", sent(&trial)))?;
        let begun = Instant::now();
        let told = runtime.block_on(trial.tell(redis, Duration::from_secs(flags.timeout)));
        let milliseconds = begun.elapsed().as_millis();
        let line = match &told {
            Ok(told) => came_of_it(told, milliseconds),
            Err(problem) => {
                format!("failed after {milliseconds} ms: {}", shown(&problem.to_string(), usize::MAX))
            }
        };
        print(&format!("  {line}\n"))?;
        took_it += usize::from(told.is_ok_and(|told| has_it(&told)));
    }
    print(&format!("{took_it} of {} took it\n", numbers.len()))?;
    Ok(took_it == numbers.len())
}

/// The numbers of the webhooks that are to be told. Errors: there are none, or not the one that was asked for.
fn chosen(app: &str, count: usize, asked: Option<usize>) -> Result<std::ops::Range<usize>, Absent> {
    let app = || app.to_owned();
    match (count.checked_sub(1), asked) {
        (None, _) => Err(Absent::Webhooks { app: app() }),
        (Some(last), Some(asked)) if asked > last => Err(Absent::Webhook { app: app(), asked, last }),
        (Some(_), Some(asked)) => Ok(asked..asked + 1),
        (Some(_), None) => Ok(0..count),
    }
}

/// So that what was done is seen even where the next step hangs.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// `channel_occupied of channel soundpost-webhook-test`
fn sent(trial: &Trial) -> String {
    let what = format!("{} of channel {}", trial.kind().word(), trial.channel());
    match trial.is_job() {
        true => format!("{what}, as a job: a worker of the app runs it like any other"),
        false => format!("{what}, signed with the secret of the app"),
    }
}

/// What a person wants to know, and what to change if it was not taken.
fn came_of_it(told: &Told, milliseconds: u128) -> String {
    match told {
        Told::Pushed => format!("pushed in {milliseconds} ms"),
        Told::Answered { status, text } => {
            let advice = if has_it(told) { "" } else { advice(*status) };
            let text = if text.trim().is_empty() {
                "nothing else".to_owned()
            } else {
                shown(text.trim(), ANSWER_CHARS_MAX)
            };
            format!("answered {status} in {milliseconds} ms{advice}: {text}")
        }
    }
}

const fn has_it(told: &Told) -> bool {
    matches!(told, Told::Pushed | Told::Answered { status: 200..=299, .. })
}

/// What a status that is no success is mostly about.
const fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirects are not followed: write in url where it leads to)",
        401 | 403 => {
            " (refused: does it check the signature with the secret of this app, or ask for a login?)"
        }
        404 | 410 => " (there is nothing at this path; see url)",
        405 => " (it takes no POST at this path; see url and its routes)",
        419 => " (Laravel asks for its CSRF token: exclude this path from its CSRF check)",
        408 | 409 | 425 | 429 | 500..=599 => " (it failed: the server would try again, for 5 minutes)",
        _ => " (refused: the server would not try again)",
    }
}

/// The first characters in one line, those that are not to be seen escaped.
fn shown(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars();
    let escaped = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    let mut line: String = chars.by_ref().take(chars_max).map(escaped).collect();
    if chars.next().is_some() {
        line.push_str(" ..");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_that_a_terminal_cannot_be_led_by() {
        assert_eq!(shown("a \"b\"\n\u{1b}[31m\u{202e}é\0", 100), "a \"b\"\\n\\u{1b}[31m\\u{202e}é\\0");
        let long = shown(&"é".repeat(301), ANSWER_CHARS_MAX);
        assert_eq!(long.chars().count(), 303);
    }

    #[test]
    fn only_a_2xx_took_it_and_the_others_say_what_to_change() {
        let of = |status| {
            let told = Told::Answered { status, text: " ok \n".to_owned() };
            (has_it(&told), came_of_it(&told, 5))
        };
        assert_eq!(of(204), (true, "answered 204 in 5 ms: ok".to_owned()));
        for (status, word) in [
            (302, "redirects are not followed"),
            (401, "the secret of this app"),
            (404, "nothing at this path"),
            (405, "no POST"),
            (419, "CSRF"),
            (503, "would try again"),
            (422, "would not try again"),
        ] {
            let (is_good, line) = of(status);
            assert!(!is_good && line.contains(word), "{line}");
        }
    }

    #[test]
    fn webhooks_are_chosen_by_number() {
        let line = |count, asked| chosen("a", count, asked).map_err(|error| error.to_string());
        assert_eq!(line(2, None), Ok(0..2));
        assert_eq!(line(2, Some(1)), Ok(1..2));
        assert_eq!(line(2, Some(2)), Err("app a has no webhook 2; the last is 1".to_owned()));
        assert_eq!(line(0, None), Err("app a has no webhooks; write them as [[apps.webhooks]]".to_owned()));
        let ids = vec!["a".to_owned(), "b".to_owned()];
        let error = Absent::App { asked: "\u{1b}x".to_owned(), ids };
        assert_eq!(error.to_string(), "there is no app \"\\u{1b}x\"; there is a, b");
    }
}
