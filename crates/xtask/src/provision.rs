//! Making sure that what the tests use is there: installed on Debian and its kin, named exactly anywhere else.
//!
//! Nothing is ever left out because it is missing: then the run fails here. A C compiler cannot be provided, for
//! without one cargo could not have built this program.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::Part;

/// The oldest Node.js whose test runner and clients work.
const NODE_MAJOR_MIN: u32 = 20;
/// What is installed by npm, out of its registry, where the Node.js that brought npm is older: Debian 12 has 18.
const NODE_BY_NPM: &str = "node@22";

/// Fails where Laravel's queue is not where Debian's packages have it, and nobody says where else.
const LARAVEL_QUEUE: &str = "if (!extension_loaded('redis')) exit(1);
    foreach (['Queue', 'Redis', 'Events', 'Cache'] as $p)
        if (!getenv('LARAVEL_AUTOLOAD') && !is_file(\"/usr/share/php/Illuminate/$p/autoload.php\")) exit(1);";

/// Something the tests use, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    /// Which part uses it; `None`: both.
    part: Option<Part>,
    is_met: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler and make (jemalloc is built with them)",
        packages: &["build-essential"],
        part: None,
        is_met: || on_path("cc") && on_path("make"),
    },
    // Nodes are tried in clusters of processes, the adapter's parts alone.
    Need {
        what: "redis-server and redis-cli",
        packages: &["redis-server", "redis-tools"],
        part: None,
        is_met: || on_path("redis-server") && on_path("redis-cli"),
    },
    // Clients and publishers go through both proxies.
    Need { what: "nginx", packages: &["nginx"], part: None, is_met: || is_there("nginx") },
    Need { what: "HAProxy", packages: &["haproxy"], part: None, is_met: || is_there("haproxy") },
    Need { what: "openssl", packages: &["openssl"], part: None, is_met: || on_path("openssl") },
    // The files in deploy/ are tried with the programs they are for, nginx among them.
    Need { what: "caddy", packages: &["caddy"], part: Some(Part::Rust), is_met: || on_path("caddy") },
    Need {
        what: "supervisor",
        packages: &["supervisor"],
        part: Some(Part::Rust),
        is_met: || on_path("supervisord") && on_path("supervisorctl"),
    },
    Need {
        what: "promtool",
        packages: &["prometheus"],
        part: Some(Part::Rust),
        is_met: || on_path("promtool"),
    },
    Need {
        what: "systemd-analyze",
        packages: &["systemd"],
        part: Some(Part::Rust),
        is_met: || on_path("systemd-analyze"),
    },
    // A worker of Laravel's queue takes jobs that webhooks have pushed.
    Need {
        what: "PHP with its extension for Redis, and Laravel's queue",
        packages: &[
            "php-cli",
            "php-redis",
            "php-illuminate-cache",
            "php-illuminate-events",
            "php-illuminate-queue",
            "php-illuminate-redis",
        ],
        part: Some(Part::Rust),
        is_met: || succeeds("php", &["-r", LARAVEL_QUEUE]),
    },
    // Tries the .deb that `cargo xtask dist` makes.
    Need { what: "dpkg-deb", packages: &["dpkg"], part: Some(Part::E2e), is_met: || on_path("dpkg-deb") },
    Need { what: "Node.js", packages: &["nodejs"], part: Some(Part::E2e), is_met: || on_path("node") },
    Need { what: "npm", packages: &["npm"], part: Some(Part::E2e), is_met: || on_path("npm") },
    Need {
        what: "Chromium",
        packages: &["chromium", "fonts-liberation"],
        part: Some(Part::E2e),
        is_met: || {
            env::var_os("CHROMIUM").is_some()
                || ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
                    .iter()
                    .any(|path| Path::new(path).exists())
        },
    },
    Need {
        what: "Python 3 with venv",
        packages: &["python3", "python3-venv"],
        part: Some(Part::E2e),
        is_met: || succeeds("python3", &["-c", "import venv, ensurepip"]),
    },
    // Runs what docs/webhooks.md says of PHP.
    Need { what: "PHP", packages: &["php-cli"], part: Some(Part::E2e), is_met: || on_path("php") },
];

/// Why the machine is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// Something is missing and this program cannot install it here.
    #[error(
        "missing: {}. {why}. On Debian or Ubuntu: apt-get install {}",
        what.join(", "),
        packages.join(" ")
    )]
    Missing {
        /// For people.
        what: Vec<&'static str>,
        /// For apt.
        packages: Vec<&'static str>,
        /// Why it was not installed.
        why: &'static str,
    },
    /// A newer Node.js could not be installed; npm has printed why.
    #[error(
        "Node.js {found:?} is too old and `{command}` failed; the tests need version {NODE_MAJOR_MIN} or newer"
    )]
    OldNode {
        /// What `node --version` says.
        found: String,
        /// The command line.
        command: String,
    },
    /// apt failed; it has printed why.
    #[error("`{command}` failed")]
    Apt {
        /// The command line.
        command: String,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {error}")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// Installs what `only`, or everything, needs and lacks. What belongs to this repository alone goes under `target`.
pub(crate) fn provision(only: Option<Part>, target: &Path) -> Result<(), ProvisionError> {
    let missing = missing(only);
    if !missing.is_empty() {
        let packages = packages_of(&missing);
        let what = missing.iter().map(|need| need.what).collect();
        let Some(apt) = apt() else {
            let why = "It is installed only on Debian and its kin, as root or with a sudo that asks nothing";
            return Err(ProvisionError::Missing { what, packages, why });
        };
        install(apt, &packages)?;
        let missing = self::missing(only);
        if !missing.is_empty() {
            let what = missing.iter().map(|need| need.what).collect();
            let why = "apt installed its packages and it is still not found";
            return Err(ProvisionError::Missing { what, packages: packages_of(&missing), why });
        }
    }
    if only != Some(Part::Rust) {
        renew_node(target)?;
    }
    println!("all there");
    Ok(())
}

fn missing(only: Option<Part>) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| (only.is_none() || need.part.is_none() || only == need.part) && !(need.is_met)())
        .collect()
}

fn packages_of(needs: &[&'static Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs.iter().flat_map(|need| need.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// The words before `apt-get` with which packages can be installed here, if they can be.
fn apt() -> Option<&'static [&'static str]> {
    if !Path::new("/etc/debian_version").exists() || !on_path("apt-get") {
        None
    } else if output("id", &["-u"]).is_ok_and(|out| out.stdout.trim_ascii() == b"0") {
        Some(&[])
    } else if succeeds("sudo", &["-n", "true"]) {
        Some(&["sudo", "-n"])
    } else {
        None
    }
}

fn install(prefix: &[&'static str], packages: &[&'static str]) -> Result<(), ProvisionError> {
    println!("installing {}", packages.join(" "));
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    let update = [prefix, &quiet, &["update"]].concat();
    let install = [prefix, &quiet, &["install", "--yes", "--no-install-recommends"], packages].concat();
    for words in [update, install] {
        let [program, arguments @ ..] = words.as_slice() else { continue };
        let status = Command::new(program).args(arguments).status();
        if !status.map_err(|error| ProvisionError::Start { program, error })?.success() {
            return Err(ProvisionError::Apt { command: words.join(" ") });
        }
    }
    Ok(())
}

/// Where a Node.js of our own is, if the machine's was too old.
pub(crate) fn own_node(target: &Path) -> PathBuf {
    target.join("e2e-node/node_modules/.bin")
}

/// Installs a newer Node.js for the tests where the machine's is too old.
fn renew_node(target: &Path) -> Result<(), ProvisionError> {
    let version = |program: &Path| {
        let out = Command::new(program).arg("--version").output();
        let out = out.map_err(|error| ProvisionError::Start { program: "node", error })?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let is_new = |version: &str| node_major(version).is_some_and(|major| major >= NODE_MAJOR_MIN);
    let found = version(Path::new("node"))?;
    let own = own_node(target).join("node");
    if is_new(&found) || (own.exists() && version(&own).is_ok_and(|version| is_new(&version))) {
        return Ok(());
    }
    println!("Node.js {found} is too old; installing {NODE_BY_NPM} for the tests");
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--prefix"]);
    let status = npm.arg(target.join("e2e-node")).arg(NODE_BY_NPM).status();
    if status.map_err(|error| ProvisionError::Start { program: "npm", error })?.success() {
        return Ok(());
    }
    Err(ProvisionError::OldNode { found, command: format!("npm install {NODE_BY_NPM}") })
}

/// `v20.20.2` is 20.
fn node_major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The same for what is mostly started by root: on Debian its folder is not on everybody's path.
fn is_there(program: &str) -> bool {
    on_path(program) || Path::new("/usr/sbin").join(program).is_file()
}

fn output(program: &str, arguments: &[&str]) -> io::Result<Output> {
    Command::new(program).args(arguments).output()
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    output(program, arguments).is_ok_and(|out| out.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_versions_are_read() {
        for (version, major) in [("v20.20.2", Some(20)), ("v8.1.0", Some(8)), ("", None), ("20.1", None)] {
            assert_eq!(node_major(version), major, "{version}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_packages_once() {
        let needs: Vec<_> = NEEDS.iter().filter(|need| need.what.contains("compiler")).collect();
        let packages = packages_of(&[needs.clone(), needs].concat());
        assert_eq!(packages, ["build-essential"]);
        let error = ProvisionError::Missing { what: vec!["make"], packages, why: "Because" };
        let expected = "missing: make. Because. On Debian or Ubuntu: apt-get install build-essential";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-anywhere"));
    }
}
