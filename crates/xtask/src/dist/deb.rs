//! The Debian package: an `ar` archive of a version, of what dpkg must know, and of the files. Source: deb(5).

use std::{fs, io::Write, path::Path};

use flate2::{Compression, GzBuilder};
use md5::{Digest, Md5};

use super::{
    DistError, VERSION, at,
    entry::{self, Entry},
    hex,
};

/// Of the package, behind the version of what is in it.
const REVISION: u32 = 1;

/// Files that belong to the administrator once they are installed.
const CONFFILES: [(&str, &str); 2] = [
    ("etc/soundpost/soundpost.toml", "deploy/soundpost.toml"),
    ("etc/default/soundpost", "deploy/systemd/soundpost.default"),
];

/// What dpkg runs: name, and where it lies.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", "deploy/debian/postinst"),
    ("prerm", "deploy/debian/prerm"),
    ("postrm", "deploy/debian/postrm"),
];

const DOC: &str = "usr/share/doc/soundpost";

/// What the package says of itself.
#[derive(Debug)]
pub(super) struct Package {
    architecture: &'static str,
    /// The oldest C library whose symbols the binary needs.
    libc: String,
}

impl Package {
    pub(super) fn new(target: &str, binary: &[u8]) -> Result<Self, DistError> {
        let architecture = match target.split('-').next() {
            Some("x86_64") => "amd64",
            Some("aarch64") => "arm64",
            _ => return Err(DistError::Architecture { target: target.to_owned() }),
        };
        Ok(Self { architecture, libc: newest_glibc(binary) })
    }

    pub(super) fn file_name(&self) -> String {
        format!("soundpost_{VERSION}-{REVISION}_{}.deb", self.architecture)
    }

    /// The bytes of the package.
    pub(super) fn build(&self, root: &Path, binary: Vec<u8>, time: u64) -> Result<Vec<u8>, DistError> {
        let files = files(root, binary, time)?;
        let pack = |entries: &[Entry]| {
            let here: Vec<_> = entries
                .iter()
                .map(|entry| Entry { path: format!("./{}", entry.path), ..entry.clone() })
                .collect();
            entry::tar_gz(&here, time).map_err(at(root))
        };
        let mut control = vec![
            Entry::file("control".to_owned(), 0o644, self.control(&files).into_bytes()),
            Entry::file("conffiles".to_owned(), 0o644, conffiles().into_bytes()),
            Entry::file("md5sums".to_owned(), 0o644, md5sums(&files).into_bytes()),
        ];
        for (name, path) in SCRIPTS {
            let path = root.join(path);
            control.push(Entry::file(name.to_owned(), 0o755, fs::read(&path).map_err(at(&path))?));
        }
        Ok(ar(
            &[
                ("debian-binary", b"2.0\n"),
                ("control.tar.gz", &pack(&control)?),
                ("data.tar.gz", &pack(&files)?),
            ],
            time,
        ))
    }

    fn control(&self, files: &[Entry]) -> String {
        let bytes: usize = files.iter().filter_map(|entry| Some(entry.content.as_ref()?.len())).sum();
        format!(
            "Package: soundpost\n\
             Version: {VERSION}-{REVISION}\n\
             Architecture: {}\n\
             Maintainer: The Soundpost project <noreply@soundpost.invalid>\n\
             Installed-Size: {}\n\
             Depends: adduser, libc6 (>= {}), libgcc-s1\n\
             Recommends: ca-certificates\n\
             Section: net\n\
             Priority: optional\n\
             Description: WebSocket broadcast server that speaks the Pusher protocol\n \
             A drop-in for Laravel Reverb, soketi and Pusher Channels: clients keep\n \
             pusher-js or Laravel Echo, applications keep their Pusher SDK.\n \
             .\n \
             Nothing is started when this package is installed: write an app into\n \
             /etc/soundpost/soundpost.toml, then enable soundpost.service.\n",
            self.architecture,
            bytes.div_ceil(1024),
            self.libc,
        )
    }
}

/// All that is installed.
fn files(root: &Path, binary: Vec<u8>, time: u64) -> Result<Vec<Entry>, DistError> {
    let mut files = vec![Entry::file("usr/bin/soundpost".to_owned(), 0o755, binary)];
    let mut add = |to: &str, from: &str| entry::add_tree(&mut files, &root.join(from), to);
    add("lib/systemd/system/soundpost.service", "deploy/systemd/soundpost.service")?;
    for (to, from) in CONFFILES {
        add(to, from)?;
    }
    add(&format!("{DOC}/README.md"), "README.md")?;
    for page in ["configuration", "operating", "guarantees", "compatibility"] {
        add(&format!("{DOC}/{page}.md"), &format!("docs/{page}.md"))?;
    }
    for folder in ["systemd", "supervisor", "nginx", "caddy", "prometheus", "grafana"] {
        add(&format!("{DOC}/examples/{folder}"), &format!("deploy/{folder}"))?;
    }
    let license = root.join("LICENSE");
    let license = fs::read_to_string(&license).map_err(at(&license))?;
    files.push(Entry::file(format!("{DOC}/copyright"), 0o644, copyright(&license).into_bytes()));
    let changelog = changelog(time);
    files.push(Entry::file(format!("{DOC}/changelog.Debian.gz"), 0o644, gzip(&changelog).map_err(at(root))?));
    // They hold secrets; postinst gives them to the group that may read them.
    for (path, _) in CONFFILES {
        files.iter_mut().filter(|file| file.path == path).for_each(|file| file.mode = 0o640);
    }
    Ok(files)
}

fn conffiles() -> String {
    CONFFILES.iter().map(|(path, _)| format!("/{path}\n")).collect()
}

fn md5sums(files: &[Entry]) -> String {
    let mut sums = String::new();
    for file in files.iter().filter(|file| !CONFFILES.iter().any(|(path, _)| *path == file.path)) {
        let sum = hex(&Md5::digest(file.content.as_deref().unwrap_or_default()));
        sums.push_str(&format!("{sum}  {}\n", file.path));
    }
    sums
}

/// The licence in the form that Debian's tools read.
fn copyright(license: &str) -> String {
    let indented: String = license
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: soundpost\n\nFiles: *\nCopyright: the Soundpost authors\nLicense: Expat\n{indented}"
    )
}

/// Debian wants one of the package, beside that of what is in it.
fn changelog(time: u64) -> String {
    let date = rfc2822(time);
    format!(
        "soundpost ({VERSION}-{REVISION}) stable; urgency=medium\n\n  * Packaged by `cargo xtask dist`.\n\n \
         -- The Soundpost project <noreply@soundpost.invalid>  {date}\n"
    )
}

/// `Tue, 14 Nov 2023 22:13:20 +0000`
fn rfc2822(time: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut left, mut year) = (time / 86_400, 1970_u64);
    let weekday = usize::try_from(left % 7).unwrap_or(0);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (seconds, day) = (time % 86_400, left + 1);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} +0000",
        DAYS.get(weekday).unwrap_or(&""),
        MONTHS.get(month).unwrap_or(&""),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn gzip(text: &str) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(text.as_bytes())?;
    gzip.finish()
}

/// The newest `GLIBC_2.N` that the binary names.
fn newest_glibc(binary: &[u8]) -> String {
    const MARK: &[u8] = b"GLIBC_2.";
    let minor = |at: usize| {
        let digits = binary.get(at + MARK.len()..)?;
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(digits.get(..end)?).ok()?.parse::<u32>().ok()
    };
    let marks = binary.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    format!("2.{}", marks.filter_map(|(at, _)| minor(at)).max().unwrap_or(0))
}

/// An archive as `ar` makes it; dpkg wants nothing but these three members, in their order.
fn ar(members: &[(&str, &[u8])], time: u64) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", content.len());
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        if content.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_an_archive_begin_at_even_places() {
        let archive = ar(&[("debian-binary", b"2.0\n"), ("odd", b"abc"), ("last", b"x")], 7);
        let text = String::from_utf8(archive).unwrap();
        assert!(
            text.starts_with(
                "!<arch>\ndebian-binary   7           0     0     100644  4         `\n2.0\nodd "
            )
        );
        assert!(text.contains("`\nabc\nlast "), "{text:?}");
        assert_eq!(text.len(), 8 + 3 * 60 + 4 + 4 + 2);
    }

    #[test]
    fn the_newest_c_library_counts() {
        assert_eq!(newest_glibc(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0"), "2.34");
    }

    #[test]
    fn dates_are_written_as_debian_wants_them() {
        for (time, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (1_709_209_845, "Thu, 29 Feb 2024 12:30:45 +0000"),
            (1_700_000_000, "Tue, 14 Nov 2023 22:13:20 +0000"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 +0000"),
        ] {
            assert_eq!(rfc2822(time), date);
        }
    }

    #[test]
    fn architectures_have_debians_names() {
        for (target, name) in [("x86_64-unknown-linux-gnu", "amd64"), ("aarch64-unknown-linux-gnu", "arm64")]
        {
            let file = Package::new(target, b"").unwrap().file_name();
            assert_eq!(file, format!("soundpost_{VERSION}-{REVISION}_{name}.deb"));
        }
        assert!(matches!(Package::new("s390x-x", b""), Err(DistError::Architecture { .. })));
    }
}
