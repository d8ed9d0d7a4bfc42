//! The Dockerfile, compose and Kubernetes: that they are well formed, agree with one another, and leave time to drain.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use soundpost_server::config::{Flags, Settings};
use yaml_rust2::{Yaml, YamlLoader};

use crate::tools::{Folder, Running, exchange, path, text, until, with};

/// Beyond the drain, rounded up.
const FAREWELL_SECONDS: i64 = 8;

fn yaml(name: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&text(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// The document of this kind.
fn of_kind<'a>(documents: &'a [Yaml], kind: &str) -> &'a Yaml {
    documents.iter().find(|document| document["kind"].as_str() == Some(kind)).unwrap()
}

/// The settings of the pod: its ConfigMap as a file, its Secret as variables.
fn settings(documents: &[Yaml]) -> Settings {
    let folder = Folder::new();
    let file = of_kind(documents, "ConfigMap")["data"]["soundpost.toml"].as_str().unwrap();
    let flags = Flags { config: Some(folder.write("soundpost.toml", file)), ..Flags::default() };
    let secret = of_kind(documents, "Secret")["stringData"].as_hash().unwrap();
    let text = |yaml: &Yaml| yaml.as_str().unwrap().to_owned();
    let variables = secret.iter().map(|(name, value)| (text(name), text(value)));
    Settings::load(&flags, variables, Path::new("")).unwrap()
}

#[test]
fn the_pod_serves_its_app_and_has_time_to_drain() {
    let documents = yaml("kubernetes/soundpost.yaml");
    let settings = settings(&documents);
    let spec = &of_kind(&documents, "Deployment")["spec"];
    // Several only where they are one server.
    let redis = settings.redis.as_ref().unwrap();
    assert!(spec["replicas"].as_i64().unwrap() > 1 && redis.password.is_some());
    assert!(!settings.server.ready_requires_redis);
    let store = yaml("kubernetes/redis.yaml");
    let service = of_kind(&store, "Service");
    let address = format!(
        "{}:{}",
        service["metadata"]["name"].as_str().unwrap(),
        service["spec"]["ports"][0]["port"].as_i64().unwrap()
    );
    assert_eq!(redis.servers.to_string(), address);
    let pod = &of_kind(&store, "Deployment")["spec"]["template"];
    assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
    let key = &pod["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["key"];
    assert!(of_kind(&documents, "Secret")["stringData"].as_hash().unwrap().contains_key(key));
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(settings.apps.len(), 1);
    assert!(!settings.development_app && settings.server.admin.host.is_unspecified());
    for (port, name, number) in [(0, "http", settings.server.port), (1, "admin", settings.server.admin.port)]
    {
        let found = &container["ports"][port];
        assert_eq!(
            (found["name"].as_str(), found["containerPort"].as_i64()),
            (Some(name), Some(number.into()))
        );
    }
    for (probe, path) in [("livenessProbe", "/up"), ("readinessProbe", "/ready")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("admin")));
    }
    let hook: i64 =
        container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().unwrap().parse().unwrap();
    let drain = i64::try_from(settings.server.drain.as_secs()).unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_i64().unwrap() > hook + drain + FAREWELL_SECONDS);
    assert_eq!(pod["enableServiceLinks"].as_bool(), Some(false));
    let dockerfile = text("docker/Dockerfile");
    let user = pod["securityContext"]["runAsUser"].as_i64().unwrap();
    assert!(dockerfile.contains(&format!("\nUSER {user}:{user}\n")), "{dockerfile}");
    assert!(dockerfile.contains("\nEXPOSE 8080 9601\n"));
}

#[test]
fn what_belongs_to_the_pod_finds_it() {
    let mut documents = yaml("kubernetes/soundpost.yaml");
    documents.extend(yaml("kubernetes/ingress.yaml"));
    documents.extend(yaml("kubernetes/servicemonitor.yaml"));
    let labels = &of_kind(&documents, "Deployment")["spec"]["template"]["metadata"]["labels"];
    let service = of_kind(&documents, "Service");
    for (kind, selector) in [
        ("Service", &service["spec"]["selector"]),
        ("Deployment", &of_kind(&documents, "Deployment")["spec"]["selector"]["matchLabels"]),
        (
            "PodDisruptionBudget",
            &of_kind(&documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        ),
    ] {
        assert_eq!(selector, labels, "{kind}");
    }
    let monitor = of_kind(&documents, "ServiceMonitor");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    assert_eq!(monitor["spec"]["endpoints"][0]["port"].as_str(), Some("admin"));
    for path in of_kind(&documents, "Ingress")["spec"]["rules"][0]["http"]["paths"].as_vec().unwrap() {
        assert_eq!(path["backend"]["service"]["name"], service["metadata"]["name"]);
        assert_eq!(path["backend"]["service"]["port"]["name"].as_str(), Some("http"));
    }
    let kustomization = &yaml("kubernetes/kustomization.yaml")[0];
    for file in kustomization["resources"].as_vec().unwrap() {
        assert!(path("kubernetes").join(file.as_str().unwrap()).is_file(), "{file:?}");
    }
}

#[test]
fn compose_builds_the_dockerfile_and_leaves_time_to_drain() {
    let service = &yaml("docker/compose.yaml")[0]["services"]["soundpost"];
    let context = path("docker").join(service["build"]["context"].as_str().unwrap());
    assert!(context.join(service["build"]["dockerfile"].as_str().unwrap()).is_file());
    let grace = service["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s')).unwrap();
    let environment = &service["environment"];
    let drain: i64 = environment["SOUNDPOST_SERVER__DRAIN_SECONDS"].as_str().unwrap().parse().unwrap();
    assert!(grace.parse::<i64>().unwrap() > drain + FAREWELL_SECONDS);
    for key in ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"] {
        // Without a value compose must stop, not start the development app.
        assert!(environment[key].as_str().unwrap().starts_with(&format!("${{{key}:?")), "{key}");
    }
}

#[test]
fn compose_starts_nodes_that_are_one_server() {
    let file = &yaml("docker/cluster.yaml")[0]["services"];
    let services = file.as_hash().unwrap();
    let is_node = |name: &Yaml| name.as_str().unwrap().starts_with("soundpost-");
    let nodes: Vec<_> = services.iter().filter(|(name, _)| is_node(name)).collect();
    assert_eq!(nodes.len(), 2);
    let site = text("nginx/cluster.conf");
    for (name, node) in nodes {
        assert!(site.contains(&format!("\n    server {}:8080 ", name.as_str().unwrap())), "{name:?}");
        let context = path("docker").join(node["build"]["context"].as_str().unwrap());
        assert!(context.join(node["build"]["dockerfile"].as_str().unwrap()).is_file());
        let environment = node["environment"].as_hash().unwrap();
        // Without a value compose stops; here it gets one.
        let value = |text: &str| if text.starts_with("${") { "x".repeat(32) } else { text.to_owned() };
        let variables = environment
            .iter()
            .map(|(name, text)| (name.as_str().unwrap().to_owned(), value(text.as_str().unwrap())));
        let folder = Folder::new();
        let settings = Settings::load(&Flags::default(), variables, &folder.path("")).unwrap();
        let redis = settings.redis.unwrap();
        assert_eq!(redis.servers.to_string(), "redis:6379");
        assert!(redis.password.is_some() && services.contains_key(&Yaml::String("redis".to_owned())));
        let grace = node["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap();
        let drain = i64::try_from(settings.server.drain.as_secs()).unwrap();
        assert!(grace.parse::<i64>().unwrap() > drain + FAREWELL_SECONDS);
    }
}

/// Redis as compose starts it takes its settings, and asks for the password.
#[test]
fn the_redis_of_compose_is_sound() {
    let folder = Folder::new();
    let command = &yaml("docker/cluster.yaml")[0]["services"]["redis"]["command"];
    assert_eq!((command[0].as_str(), command[1].as_str()), (Some("sh"), Some("-c")));
    let socket = folder.path("redis.sock");
    let file = folder.path("redis.conf").display().to_string();
    let script = with(
        &command[2].as_str().unwrap().replace("$$", "$"),
        &[
            (
                "exec redis-server",
                &format!(
                    "echo 'port 0\nunixsocket {}' >> /tmp/redis.conf; exec redis-server",
                    socket.display()
                ),
            ),
            ("/tmp/redis.conf", &file),
        ],
    );
    let mut redis = Command::new("sh");
    redis.args(["-c", &script]).env("REDIS_PASSWORD", "pass word").current_dir(folder.path(""));
    let _redis = Running::start(redis.stdout(Stdio::null()));
    until("redis to listen", || UnixStream::connect(&socket).is_ok());
    let mut stream = UnixStream::connect(&socket).unwrap();
    assert!(exchange(&mut stream, "PING\r\n", "\r\n").starts_with("-NOAUTH"));
    let login = "*2\r\n$4\r\nAUTH\r\n$9\r\npass word\r\n";
    assert_eq!(exchange(&mut stream, login, "\r\n"), "+OK\r\n");
    let asked = "CONFIG GET maxmemory-policy\r\n";
    assert!(exchange(&mut stream, asked, "noeviction\r\n").contains("noeviction"));
    let asked = "CONFIG GET client-output-buffer-limit\r\n";
    assert!(exchange(&mut stream, asked, "60\r\n").contains("pubsub 268435456 67108864 60"));
}

#[test]
fn the_context_of_the_build_holds_what_the_build_needs() {
    let root = path("..");
    let ignore = text("docker/Dockerfile.dockerignore");
    for name in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(root.join(name).exists(), "{name}");
    }
    assert!(ignore.contains("\n*\n"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains(r#"members = ["crates/*"]"#), "the context holds all members of the workspace");
}

#[test]
fn the_example_configuration_is_good() {
    let flags = Flags { config: Some(path("soundpost.toml")), ..Flags::default() };
    let settings = Settings::load(&flags, [], Path::new("")).unwrap();
    assert!(settings.development_app);
    // With every comment that is a line of TOML taken away it is still good, and serves an app of one's own.
    let folder = Folder::new();
    let lines = text("soundpost.toml")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(code) if !code.starts_with(' ') => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect::<String>()
        .replace("secret = \"\"", "secret = \"0123456789abcdef\"");
    let flags = Flags { config: Some(folder.write("soundpost.toml", &lines)), ..Flags::default() };
    let settings = Settings::load(&flags, [], Path::new("")).unwrap();
    assert_eq!((settings.apps.len(), settings.development_app), (1, false));
}
