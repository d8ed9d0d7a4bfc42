<?php

return [
    'servers' => ['reverb' => ['host' => env('HOST', '0.0.0.0'), 'port' => (int) env('SERVER_PORT', 8_080)]],
    /* apps */
    'apps' => array(
        'provider' => 'config', // the only one
        'apps' => [
            ['key' => env('KEY'), 'secret' => 'hush', 'app_id' => "1\x32", 'allowed_origins' => ['*', ], 'ping_interval' => 60],
        ],
    ),
];
