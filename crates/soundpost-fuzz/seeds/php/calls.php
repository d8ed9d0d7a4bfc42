<?php
declare(strict_types=1);
use Illuminate\Support\{Arr, Str};
$list = explode(',', 'hush');
return [
    'a' => array_values(array_filter(array_map('trim', explode(',', (string) env('ORIGINS', '*'))))),
    'b' => env('A') ?: env('B') ?? 'c' . 1 . null,
    'c' => filter_var(env('ON'), FILTER_VALIDATE_BOOL),
    ...config('more'),
    'd' => fn ($a) => [$a => "x {$a["b"]} ${c}"],
];
