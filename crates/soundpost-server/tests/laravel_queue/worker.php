<?php

// A worker of Laravel's queue, as `php artisan queue:work redis` builds it, with nothing of our own between it and Redis.
//
// Arguments: JSON, {"autoload":[FILE,..],"class":FILE,"port":6379,"database":0,"prefix":"","queue":"default",
// "block_for":null|SECONDS,"jobs":COUNT,"tries":COUNT,"backoff":SECONDS,"fail":[NAME,..],"seconds":SECONDS,
// "push":null|{"job":NAME,"data":{..}}}
//
// With "push" it pushes a job as an app does, and ends. Else it runs until COUNT jobs were taken or the time is over. Prints a line of JSON for each thing that happens: {"did":"waits"},
// {"did":"event","name":"pusher.cache_miss","event":{..},"app":ID}, {"did":"processed|failed|threw",..}.
// The first time that an event named in "fail" comes, its listener throws.

use Illuminate\Cache\ArrayStore;
use Illuminate\Cache\Repository;
use Illuminate\Container\Container;
use Illuminate\Contracts\Cache\Repository as CacheContract;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Events\Dispatcher as DispatcherContract;
use Illuminate\Events\Dispatcher;
use Illuminate\Queue\Capsule\Manager;
use Illuminate\Queue\Connectors\RedisConnector;
use Illuminate\Queue\Events\JobExceptionOccurred;
use Illuminate\Queue\Events\JobFailed;
use Illuminate\Queue\Events\JobProcessed;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;
use Illuminate\Redis\RedisManager;

$settings = json_decode($argv[1], true, 512, JSON_THROW_ON_ERROR);
foreach ($settings['autoload'] as $file) {
    require $file;
}
require $settings['class'];

function say(array $what): void
{
    echo json_encode($what, JSON_THROW_ON_ERROR), "\n";
}

$container = new class extends Container
{
    public function isDownForMaintenance(): bool
    {
        return false;
    }
};
Container::setInstance($container);
$events = new Dispatcher($container);
$container->instance(DispatcherContract::class, $events);
$container->instance('events', $events);
$container->instance(CacheContract::class, new Repository(new ArrayStore()));
$handler = new class implements ExceptionHandler
{
    public function report(Throwable $e)
    {
        say(['did' => 'reported', 'what' => $e->getMessage()]);
    }

    public function shouldReport(Throwable $e)
    {
        return true;
    }

    public function render($request, Throwable $e)
    {
    }

    public function renderForConsole($output, Throwable $e)
    {
    }
};
$container->instance(ExceptionHandler::class, $handler);

$redis = new RedisManager($container, 'phpredis', [
    'options' => ['prefix' => $settings['prefix']],
    'default' => ['host' => '127.0.0.1', 'port' => $settings['port'], 'database' => $settings['database']],
]);
$queue = new Manager($container);
$queue->getQueueManager()->addConnector('redis', fn () => new RedisConnector($redis));
$queue->addConnection([
    'driver' => 'redis',
    'connection' => 'default',
    'queue' => $settings['queue'],
    'retry_after' => 90,
    'block_for' => $settings['block_for'],
], 'redis');

if ($settings['push'] !== null) {
    ['job' => $job, 'data' => $data] = $settings['push'];
    say(['did' => 'pushed', 'id' => $queue->getConnection('redis')->push($job, $data)]);
    exit;
}

$fail = $settings['fail'];
$events->listen('pusher.*', function (string $name, array $payload) use (&$fail): void {
    [$event, $app] = $payload;
    if (in_array($event['name'], $fail, true)) {
        $fail = array_diff($fail, [$event['name']]);
        throw new RuntimeException("not yet: {$event['name']}");
    }
    say(['did' => 'event', 'name' => $name, 'event' => $event, 'app' => $app]);
});
$taken = 0;
$tell = function (string $did) use (&$taken): Closure {
    return function ($event) use ($did, &$taken): void {
        $job = $event->job;
        $taken++;
        say([
            'did' => $did, 'uuid' => $job->uuid(), 'id' => $job->getJobId(), 'attempts' => $job->attempts(),
            'name' => $job->resolveName(), 'released' => $job->isReleased(), 'deleted' => $job->isDeleted(),
        ]);
    };
};
$events->listen(JobProcessed::class, $tell('processed'));
$events->listen(JobExceptionOccurred::class, $tell('threw'));
$events->listen(JobFailed::class, fn ($event) => say(['did' => 'failed', 'uuid' => $event->job->uuid()]));

$worker = new Worker($queue->getQueueManager(), $events, $handler, fn () => false);
$options = new WorkerOptions('default', $settings['backoff'], 128, 60, 0, $settings['tries']);
$deadline = microtime(true) + $settings['seconds'];
say(['did' => 'waits']);
while ($taken < $settings['jobs'] && microtime(true) < $deadline) {
    $worker->runNextJob('redis', $settings['queue'], $options);
    usleep(1000);
}
