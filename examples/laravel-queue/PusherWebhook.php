<?php

namespace App\Jobs;

use Illuminate\Contracts\Cache\Repository as Cache;
use Illuminate\Contracts\Events\Dispatcher;
use Illuminate\Contracts\Queue\Job;

/**
 * What Soundpost's channels tell this app, run by its queue workers.
 *
 * Each event is dispatched as a Laravel event: "pusher.member_added" and so on. Listen to those, or override a method.
 * An exception lets the worker run the job again; what was done before it is not done twice.
 */
class PusherWebhook
{
    /**
     * For how many seconds an event is known to be done. Soundpost pushes a job again for at most 5 minutes, but it may
     * wait long for a worker.
     */
    protected int $rememberFor = 86400;

    public function __construct(protected Dispatcher $events, protected Cache $cache)
    {
    }

    /**
     * Called by the worker with what stands under "data" in the job.
     *
     * @param  array{app_id: string, event_ids: list<string>, time_ms: int, events: list<array>}  $data
     */
    public function handle(Job $job, array $data): void
    {
        foreach ($data['events'] as $at => $event) {
            // Another class may be told of the same event.
            $done = static::class.':'.$data['app_id'].':'.$data['event_ids'][$at];
            if ($this->cache->has($done)) {
                continue;
            }
            $this->event($event, $data['app_id']);
            // Not before: if the worker dies meanwhile, the event comes again.
            $this->cache->put($done, true, $this->rememberFor);
        }
        $job->delete();
    }

    /** One event: to its method, then to listeners of "pusher.{name}", as ($event, $appId). */
    protected function event(array $event, string $appId): void
    {
        $channel = $event['channel'];
        match ($event['name']) {
            'channel_occupied' => $this->channelOccupied($channel),
            'channel_vacated' => $this->channelVacated($channel),
            'member_added' => $this->memberAdded($channel, $event['user_id']),
            'member_removed' => $this->memberRemoved($channel, $event['user_id']),
            'client_event' => $this->clientEvent(
                $channel, $event['event'], $event['data'], $event['socket_id'], $event['user_id'] ?? null
            ),
            'cache_miss' => $this->cacheMiss($channel),
            'subscription_count' => $this->subscriptionCount($channel, $event['subscription_count']),
            // What a later version of Soundpost tells goes to the listeners alone.
            default => null,
        };
        $this->events->dispatch('pusher.'.$event['name'], [$event, $appId]);
    }

    /** The first subscriber has come. */
    protected function channelOccupied(string $channel): void
    {
    }

    /** The last subscriber has gone, and nobody has come for 3 seconds. */
    protected function channelVacated(string $channel): void
    {
    }

    /** A user has come to a presence channel. */
    protected function memberAdded(string $channel, string $userId): void
    {
    }

    /** A user has left a presence channel, and has not come back for 3 seconds. */
    protected function memberRemoved(string $channel, string $userId): void
    {
    }

    /** A client has sent an event. What it says is not to be trusted. The user is known on presence channels only. */
    protected function clientEvent(
        string $channel,
        string $event,
        string $data,
        string $socketId,
        ?string $userId,
    ): void {
    }

    /** A subscriber of a cache channel has found no event there: now is the time to publish one. */
    protected function cacheMiss(string $channel): void
    {
    }

    /** There are so many subscribers now. */
    protected function subscriptionCount(string $channel, int $count): void
    {
    }
}
