//! `soundpost import`: reads the file and its `.env`, prints or writes the result. What it means is for the library.

use std::{
    error::Error,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use soundpost_server::config::{self, BYTES_MAX, Imported};

use crate::arguments::ImportFlags;

/// Only the owner reads the file: it holds the secrets of the apps.
const MODE: u32 = 0o600;

/// Imports as the flags say. Errors: a file cannot be read or written, or is there already; nothing known is in it.
pub(crate) fn import(flags: &ImportFlags) -> Result<(), Box<dyn Error>> {
    let is_stdin = flags.file == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { flags.file.display().to_string() };
    let bytes = if is_stdin { read(io::stdin().lock()) } else { File::open(&flags.file).and_then(read) };
    let text =
        config::text(bytes.map_err(|error| cannot(&format!("read {name}"), &error))?, Path::new(&name))?;
    let dotenv = if is_stdin { None } else { dotenv(&flags.file)? };
    let imported = config::import(&name, &text, dotenv.as_deref())?;
    match &flags.output {
        None => io::stdout().lock().write_all(imported.text.as_bytes())?,
        Some(output) => write(output, flags.force, &imported.text)?,
    }
    // Nobody is left to tell if even this cannot be written.
    drop(io::stderr().lock().write_all(summary(&imported, flags.output.as_deref()).as_bytes()));
    Ok(())
}

fn cannot(what: &str, error: &io::Error) -> String {
    format!("cannot {what}: {error}")
}

/// The bytes, up to one more than is taken.
fn read(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bytes_max = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    source.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of the `.env` that belongs to the file: beside it, or in Laravel's directory, one above `config/`. Errors:
/// it is there and cannot be read, without which what it says would be left out unseen.
fn dotenv(file: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let directory = file.canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()));
    let Some(directory) = directory else { return Ok(None) };
    let above = directory.parent().filter(|_| directory.ends_with("config")).map(Path::to_owned);
    let candidates = [Some(directory), above].into_iter().flatten().map(|directory| directory.join(".env"));
    let is_other = |path: &PathBuf| file.canonicalize().ok().is_none_or(|file| file != *path);
    let is_file = |path: &PathBuf| path.exists() && !path.is_dir();
    let Some(path) = candidates.filter(is_other).find(is_file) else { return Ok(None) };
    let bytes = File::open(&path).and_then(read);
    let bytes = bytes.map_err(|error| cannot(&format!("read {}", path.display()), &error))?;
    Ok(Some(config::text(bytes, &path)?))
}

/// Writes the file for its owner alone. Errors: it is there already, unless `force` is given.
fn write(output: &Path, force: bool, text: &str) -> Result<(), Box<dyn Error>> {
    let shown = output.display();
    if force && output.exists() {
        fs::remove_file(output).map_err(|error| cannot(&format!("replace {shown}"), &error))?;
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(MODE).open(output);
    let mut file = opened.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            format!("{shown} is there already; --force overwrites it")
        } else {
            cannot(&format!("write {shown}"), &error)
        }
    })?;
    file.write_all(text.as_bytes()).map_err(|error| cannot(&format!("write {shown}"), &error))?;
    Ok(())
}

/// What to know of the result, for stderr.
fn summary(imported: &Imported, output: Option<&Path>) -> String {
    let Imported { source, apps, left_out, problem, .. } = imported;
    let mut text = match output {
        Some(output) => {
            let output = output.display();
            format!(
                "soundpost: wrote {output} from {source}, apps: {apps}; it holds secrets, so only you may read it: let the \
                 server's user read it, too\n"
            )
        }
        None => format!("soundpost: imported from {source}, apps: {apps}; the secrets are in the text\n"),
    };
    if *left_out > 0 {
        text.push_str(&format!(
            "soundpost: apps that are comments: {left_out}; what each lacks stands above it\n"
        ));
    }
    if let Some(problem) = problem {
        text.push_str(&format!("soundpost: it does not start as it is: {problem}\n"));
    }
    text
}
