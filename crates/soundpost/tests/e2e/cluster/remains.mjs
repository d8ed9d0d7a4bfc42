// What a cluster has left in its Redis: read with the names of docs and adapter in mind, so that a name nobody knows is
// found as well.

/** All keys of one server that begin so. */
async function keysOf(server, names) {
  const keys = []
  let cursor = '0'
  do {
    const [next, some] = await server.ask('SCAN', cursor, 'MATCH', `${names}:*`, 'COUNT', 1000)
    keys.push(...some)
    cursor = next
  } while (cursor !== '0')
  return [...new Set(keys)]
}

/** What kind of key it is, by its end. */
const KINDS = [
  [/:\{nodes\}:lease:[0-9a-f]{16}$/, 'lease'],
  [/:\{nodes\}:lives$/, 'lives'],
  [/:s:[0-9a-f]{16}$/, 'share'],
  [/:d:[0-9a-f]{16}$/, 'tombstone'],
  [/:k$/, 'kept'],
  [/:\{[0-9a-f]{16}\}:i$/, 'index'],
  [/:n$/, 'count'],
  [/:\{[^}]*\/@webhook\/[0-9a-f]{16}\}:[mo]$/, 'webhook'],
  [/:\{[^}]*\/@webhook\/[0-9a-f]{16}\}:q$/, 'stream'],
]

/**
 * What should not be there when `alive` nodes live and nobody is connected: any key but the leases of these nodes, their
 * list, and what expires by itself (the number of a share that is empty, tombstones, kept events, counts, streams of webhooks
 * in which nothing is); any topic but the
 * control topic.
 */
export async function remains(servers, names, alive, database) {
  const found = []
  const [leases, lives, topics] = [[], [], new Set()]
  for (const server of servers) {
    if (database !== undefined) await server.ask('SELECT', database)
    const expires = async (key) => Number(await server.ask('PTTL', key)) > 0
    for (const key of await keysOf(server, names)) {
      const kind = KINDS.find(([pattern]) => pattern.test(key))?.[1]
      if (kind === 'lease') leases.push(key.slice(-16))
      else if (kind === 'lives') lives.push(...(await server.ask('ZRANGE', key, 0, -1)))
      else if (kind === 'stream' && Number(await server.ask('XLEN', key)) > 0) found.push(`events in ${key}`)
      else if (kind === 'share' && Number(await server.ask('HLEN', key)) > 1) found.push(`share ${key}`)
      else if (kind === undefined || kind === 'index') found.push(`${kind ?? 'key'} ${key}`)
      else if (!(await expires(key))) found.push(`${kind} without an end: ${key}`)
    }
    for (const kind of ['CHANNELS', 'SHARDCHANNELS']) {
      for (const topic of await server.ask('PUBSUB', kind, `${names}:*`)) topics.add(topic)
    }
  }
  for (const topic of topics) if (!topic.endsWith(':{nodes}:control')) found.push(`topic ${topic}`)
  if (leases.length !== alive) found.push(`${leases.length} leases of ${alive} nodes`)
  if (lives.sort().join() !== leases.sort().join()) found.push(`lives ${lives}, leases ${leases}`)
  return found
}
