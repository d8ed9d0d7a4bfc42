//! Configurations of other servers, for the tests. Every secret and password in them has `hush` in it.

/// As soketi's docs have it: some keys are paths, some nested.
pub(super) const SOKETI: &str = r#"{
    "debug": false,
    "port": 6002,
    "pathPrefix": "/ws/",
    "shutdownGracePeriod": 3500,
    "userAuthenticationTimeout": 20000,
    "appManager.array.apps": [
        {
            "id": 7,
            "key": "shop-key",
            "secret": "hush-shop-7c90a3e5",
            "maxConnections": "200",
            "enableClientMessages": true,
            "enabled": true,
            "maxBackendEventsPerSecond": 50,
            "maxClientEventsPerSecond": 5,
            "maxReadRequestsPerSecond": 25,
            "maxPresenceMembersPerChannel": 40,
            "maxPresenceMemberSizeInKb": 1.5,
            "maxChannelNameLength": 100,
            "maxEventChannelsAtOnce": 10,
            "maxEventPayloadInKb": 20,
            "enableUserAuthentication": true,
            "webhooks": [
                {
                    "url": "https://me:hush@app.test/hook",
                    "event_types": ["client_event", "channel_occupied"],
                    "filter": { "channel_name_starts_with": "beta-" },
                    "headers": { "X-Auth": "hush" }
                },
                { "lambda_function": "f", "event_types": ["client_event"] },
                {
                    "url": "https://app.test/all?t=hush",
                    "event_types": ["cache_miss", "warp"],
                    "headers": { "X-Auth": "hush", "Content-Type": "text/hush", "X.Y": 7 }
                }
            ]
        },
        { "id": "blog", "key": "blog-key", "secret": "hush-blog-7c90a3e5", "enabled": false, "maxConnections": -1 }
    ],
    "adapter": { "driver": "redis", "redis": { "prefix": "shop" } },
    "database": { "redis": { "host": "redis", "port": 6380, "password": "hush" } },
    "eventLimits": { "maxNameLength": 150, "maxBatchSize": 20 },
    "channelLimits": { "cacheTtl": 600 },
    "metrics": { "enabled": true, "port": 9602, "prometheus": { "prefix": "shop_" } },
    "ssl": { "certPath": "/certs/a.crt", "keyPath": "/certs/a.key", "passphrase": "hush" },
    "queue": { "driver": "sqs", "sqs": { "clientOptions": { "secretAccessKey": "hush" } } },
    "webhooks": { "batching": { "enabled": true, "duration": 70 } },
    "spaceship": { "warp": 9 }
}"#;

/// The part of Sockudo's own example that its protocol V1 uses.
pub(super) const SOCKUDO: &str = r#"
host = "127.0.0.1"
port = 6001
path_prefix = "/"
shutdown_grace_period = 12
websocket_max_payload_kb = 32
max_connections = 5000
user_authentication_timeout = 60
activity_timeout = 90
unknown_thing = "hush"

[app_manager]
driver = "memory"

[[app_manager.array.apps]]
id = "new"
key = "new-key"
secret = "hush-new-7c90a3e5"
enabled = true

[app_manager.array.apps.policy.limits]
max_connections = 0
max_client_events_per_second = 20
decay_seconds = 2
message_rate_limit = { enabled = true, max_attempts = 300, decay_seconds = 30, terminate_on_limit = true }

[app_manager.array.apps.policy.features]
enable_client_messages = true
enable_user_authentication = true
enable_watchlist_events = false

[app_manager.array.apps.policy.channels]
allowed_origins = ["https://app.test:8443", "*.shop.test", "http://[::1]:3000"]

[[app_manager.array.apps.policy.channels.channel_namespaces]]
name = "ticker"

[[app_manager.array.apps.policy.webhooks]]
url = "https://app.test/hook"
event_types = ["member_added", "message_version_created"]
filter = { channel_suffix = "-x" }
retry = { enabled = false }

[[app_manager.array.apps.policy.webhooks]]
url = "https://app.test/some?t=hush"
event_types = ["member_added"]
filter = { channel_pattern = "^a" }
headers = { Authorization = "Bearer hush" }

[[app_manager.array.apps.policy.webhooks]]
url = "https://app.test/ai"
event_types = ["ai_run_ended"]

[[app_manager.array.apps]]
id = "old"
key = "old-key"
secret = "hush-old-7c90a3e5"
max_connections = 300
enable_client_messages = false

[presence]
max_members_per_channel = 30
ungraceful_timeout_seconds = 4

[event_limits]
max_payload_in_kb = 10

[rate_limiter]
enabled = true
[rate_limiter.websocket_rate_limit]
max_requests = 120
window_seconds = 60
trust_hops = 1

[ssl]
enabled = false
cert_path = "/certs/a.crt"

[unix_socket]
enabled = true
path = "/run/sockudo.sock"
permission_mode = "660"

[database.mysql]
password = "hush"

[webhooks.batching]
size = 500

[delta_compression]
enabled = true
"#;

pub(super) const REVERB: &str = "APP_KEY=base64:hush\nDB_PASSWORD=hush\nREVERB_APP_ID=42\nREVERB_APP_KEY=\"reverb-key\"\n\
    REVERB_APP_SECRET='hush-rev-7c90a3e5'\nREVERB_HOST=ws.app.test\nREVERB_PORT=443\nREVERB_SCHEME=https\n\
    REVERB_SERVER_PORT=6001\nREVERB_APP_MAX_MESSAGE_SIZE=20000\nREVERB_APP_RATE_LIMITING_ENABLED=true\n\
    REVERB_SCALING_ENABLED=true\nREDIS_HOST=redis\nREDIS_PASSWORD=hush\nREVERB_FANCY=1\n";

pub(super) const SOKETI_ENV: &str = "SOKETI_DEFAULT_APP_ID=1e3\nSOKETI_DEFAULT_APP_KEY=env-key\n\
    SOKETI_DEFAULT_APP_SECRET=hush-env-7c90a3e5\nSOKETI_DEFAULT_APP_MAX_CONNS=9\nSOKETI_HOST=::\nSOKETI_DEBUG=1\n\
    SOKETI_DEFAULT_APP_WEBHOOKS='[{\"url\":\"https://app.test\",\"event_types\":[\"member_added\"],\"headers\":{\"X-Auth\":\"hush\"}}]'\n\
    SOKETI_WEBHOOKS_BATCHING=true\n\
    SOKETI_DB_MYSQL_PASSWORD=hush\nSOKETI_QUEUE_DRIVER=redis\nSOKETI_NOVELTY=1\nDB_PASSWORD=hush\n";

pub(super) const PUSHER: &str = "PUSHER_APP_ID=9\nPUSHER_APP_KEY=pusher-key\nPUSHER_APP_SECRET=hush-pus-7c90a3e5\n\
    PUSHER_HOST=\nPUSHER_APP_CLUSTER=eu\nDB_PASSWORD=hush\n";

/// As Reverb publishes it, with what teams write into it.
pub(super) const PHP: &str = r#"<?php

return [
    'default' => env('REVERB_SERVER', 'reverb'),
    'servers' => [
        'reverb' => [
            'host' => env('REVERB_SERVER_HOST', '0.0.0.0'),
            'port' => env('REVERB_SERVER_PORT', 8080),
            'path' => env('REVERB_SERVER_PATH', ''),
            'hostname' => env('REVERB_HOST'),
            'options' => ['tls' => []],
            'max_request_size' => env('REVERB_MAX_REQUEST_SIZE', 20_000),
            'scaling' => ['enabled' => env('REVERB_SCALING_ENABLED', false)],
        ],
    ],
    'apps' => [
        'provider' => 'config',
        'apps' => [
            [
                'key' => env('REVERB_APP_KEY'),
                'secret' => env('REVERB_APP_SECRET'),
                'app_id' => env('REVERB_APP_ID'),
                'allowed_origins' => ['app.test', '*.app.test'],
                'ping_interval' => env('REVERB_APP_PING_INTERVAL', 45),
                'activity_timeout' => 20,
                'max_connections' => env('REVERB_APP_MAX_CONNECTIONS'),
                'max_message_size' => 15_000,
                'accept_client_events_from' => env('REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM', 'members'),
            ],
            [
                'key' => 'admin-key',
                'secret' => 'hush-adm-7c90a3e5',
                'app_id' => 'admin',
                'allowed_origins' => config('admin.origins'),
                'max_connections' => 50,
                'accept_client_events_from' => 'all',
            ],
        ],
    ],
];
"#;

pub(super) const ALL: &[(&str, &str)] = &[
    ("soketi.json", SOKETI),
    ("config.toml", SOCKUDO),
    ("reverb.php", PHP),
    ("reverb.env", REVERB),
    ("soketi.env", SOKETI_ENV),
    ("pusher.env", PUSHER),
];
