//! `soundpost check`: prints what the configuration comes to.

use std::io::{self, IsTerminal, Write};

use soundpost_server::config::{Report, Settings};

use crate::arguments::{CheckFlags, Form};

/// Prints the report; whether it is good enough for whoever asked, which only `--strict` makes a question.
pub(crate) fn print(settings: &Settings, report: &Report, flags: &CheckFlags) -> io::Result<bool> {
    let text = match flags.format {
        Form::Json => format!("{}\n", report.json()),
        Form::Text => {
            let text = format!("{}{}\n", report.text(), verdict(report.warnings()));
            let is_coloured = settings.log.colours && io::stdout().is_terminal();
            if is_coloured { coloured(&text) } else { text }
        }
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(!flags.strict || report.warnings() == 0)
}

fn verdict(warnings: usize) -> String {
    match warnings {
        0 => "the configuration is good".to_owned(),
        1 => "the configuration is good, with 1 warning".to_owned(),
        more => format!("the configuration is good, with {more} warnings"),
    }
}

/// The same text with what nobody wrote dim, tables bold and warnings yellow.
fn coloured(text: &str) -> String {
    let line = |line: &str| {
        let code = if line.ends_with(" # default") {
            "2"
        } else if line.starts_with('[') {
            "1"
        } else if line.starts_with("warning: ") {
            "33"
        } else {
            return format!("{line}\n");
        };
        format!("\x1b[{code}m{line}\x1b[0m\n")
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_add_nothing_but_colours() {
        let text = "[server]\nport = 1 # --port\nhost = 2 # default\n\nwarning: x\nnote: y\n";
        let coloured = coloured(text);
        assert!(coloured.contains("\x1b[2mhost = 2 # default\x1b[0m\n\n\x1b[33mwarning: x\x1b[0m\nnote"));
        let bare = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[33m"];
        assert_eq!(bare.iter().fold(coloured, |text, code| text.replace(code, "")), text);
    }
}
