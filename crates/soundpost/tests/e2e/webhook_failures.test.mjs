// Targets that fail in every way there is, and a node that ends: what is sent again when, what is given up, and that
// nobody else notices.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { BINARY, DEADLINE, eventually, lateBy, named, subscribed } from './harness.mjs'
import { makeCertificates } from './tls.mjs'
import { pause, startStage } from './webhook_stage.mjs'
import { cutting, failing, hanging, healthy, huge, redirecting, refusing, slow, startTarget } from './webhook_target.mjs'

/** Time of one attempt, milliseconds. */
const ATTEMPT = 10_000
/** When a target that fails at once is asked again, milliseconds after the first time. */
const SCHEDULE = [0, 1000, 3000, 7000]
/** How long a node that ends still sends, after its clients have gone. */
const FAREWELL = 5000
/** How late a loaded machine may be, milliseconds. */
const LATE = 1500
/** How soon something may seem that counts from the beginning of an attempt: that was late as well, and came late. */
const EARLY = 1000

/** A node with webhooks for client events alone, and a client on `private-*` channels. */
async function talk(t, webhooks, options) {
  const all = webhooks.map((webhook) => ({ events: ['client_event'], ...webhook }))
  const stage = await startStage(t, { settings: { client_events_per_second: 0 }, webhooks: all, ...options })
  const ada = await stage.connected('ada')
  const say = async (name, n) => (ada.channel(name) ?? (await subscribed(ada, name)).channel).trigger('client-n', n)
  return { ...stage, ada, say }
}

const numbers = (target, name) => target.told.filter(({ channel }) => channel === name).map(({ data }) => Number(data))

describe('targets that fail', { concurrency: 4 }, () => {
  test('500, then 200: the same bytes again after 1, 2 and 4 seconds; only its own channel waits', async (t) => {
    const stubborn = failing(3)
    const target = await startTarget(t)
    target.answer = (response, request) => (request.text.includes('"data":"1"') && request.text.includes('private-bad') ? stubborn : healthy)(response, request)
    const { say, metric } = await talk(t, [{ url: target.url }])
    await say('private-bad', 1)
    await target.asked(1)
    await say('private-bad', 2)
    await say('private-good', 1)
    await eventually(() => numbers(target, 'private-good').length === 1, 'event of the other channel')
    assert.deepEqual(numbers(target, 'private-bad'), [], 'it has not waited for what is tried for 7 seconds')
    await eventually(() => numbers(target, 'private-bad').length === 2, 'both events of the channel that fails')
    assert.deepEqual(numbers(target, 'private-bad'), [1, 2])
    const attempts = target.requests.filter(({ text }) => text.includes('private-bad') && text.includes('"data":"1"'))
    const times = attempts.map(({ at }) => Math.round(at - attempts[0].at))
    assert.equal(times.length, SCHEDULE.length)
    // None can be too soon: each pause begins with an answer.
    times.forEach((time, n) => assert.ok(time > SCHEDULE[n] - 20 && time < SCHEDULE[n] + lateBy(LATE), `attempts after ${times} ms`))
    for (const one of attempts) assert.deepEqual([one.text, one.ids, one.rawHeaders], [attempts[0].text, attempts[0].ids, attempts[0].rawHeaders])
    assert.equal(await metric('soundpost_webhooks_retried_total'), 3)
    t.diagnostic(`attempts after ${times} ms`)
    await target.verified()
  })

  test('nobody listens, then somebody does: everything comes, in order', async (t) => {
    const target = await startTarget(t)
    const { say } = await talk(t, [{ url: target.url }])
    await say('private-a', 0)
    await target.counts(1)
    await target.down()
    const sent = performance.now()
    for (let n = 1; n < 20; n += 1) await say(`private-${n % 2 ? 'a' : 'b'}`, n)
    await pause(2000)
    await target.up()
    await target.counts(20)
    assert.deepEqual(numbers(target, 'private-a'), [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19])
    assert.deepEqual(numbers(target, 'private-b'), [2, 4, 6, 8, 10, 12, 14, 16, 18])
    const took = Math.round(performance.now() - sent)
    assert.ok(took < 3000 + lateBy(LATE), `told after ${took} ms`)
    await target.verified()
  })

  test('a connection that is cut, and one that is cut while it rests, costs nothing', async (t) => {
    const target = await startTarget(t)
    const { say } = await talk(t, [{ url: target.url }])
    await say('private-a', 0)
    await target.counts(1)
    target.cut()
    await say('private-a', 1)
    await target.counts(2)
    let isFirst = true
    target.answer = (response, request) => {
      const answer = isFirst ? cutting : healthy
      isFirst = false
      answer(response, request)
    }
    await say('private-a', 2)
    await target.counts(3)
    assert.deepEqual(numbers(target, 'private-a'), [0, 1, 2])
  })

  test('redirects are not followed, and what is refused is dropped for good', async (t) => {
    const elsewhere = await startTarget(t)
    const target = await startTarget(t)
    const { say, metric, server } = await talk(t, [{ url: `${target.url}?token=hush`, headers: { 'X-Token': 'hush' } }])
    const answers = [redirecting(elsewhere.url, 301), redirecting(elsewhere.url, 302), redirecting(elsewhere.url, 307), refusing(400), refusing(401), refusing(404), refusing(419)]
    for (const [n, answer] of answers.entries()) {
      target.answer = answer
      await say('private-a', n)
      await target.asked(n + 1)
      await eventually(async () => (await metric('soundpost_webhooks_dropped_total')) === n + 1, `drop ${n} in the metrics`)
    }
    target.answer = healthy
    await say('private-a', 99)
    await target.counts(1)
    assert.deepEqual(target.told.map(({ data }) => data), ['99'])
    assert.equal(target.requests.length, answers.length + 1, 'none was tried again')
    assert.deepEqual(elsewhere.requests, [])
    const warnings = () => server.said.filter((line) => /webhook/.test(line) && /WARN/i.test(line))
    await eventually(() => warnings().length > 0, 'warning in the log')
    const said = warnings()
    assert.ok(said.length <= 2, `once a minute: ${said.join('\n')}`)
    assert.doesNotMatch(server.said.join('\n'), /hush/)
    t.diagnostic(said[0])
  })

  test('no answer: an attempt is given 10 seconds, and other channels go on', async (t) => {
    const target = await startTarget(t)
    const first = new Set()
    target.answer = (response, request) => {
      const isHanging = request.text.includes('private-hanging') && !first.has(request.text)
      first.add(request.text)
      ;(isHanging ? hanging : healthy)(response, request)
    }
    const { say } = await talk(t, [{ url: target.url }])
    await say('private-hanging', 1)
    await target.asked(1)
    for (let n = 0; n < 20; n += 1) await say('private-good', n)
    await eventually(() => numbers(target, 'private-good').length === 20, 'events of the other channel', ATTEMPT - EARLY)
    assert.equal(target.requests.filter(({ text }) => text.includes('private-hanging')).length, 1, 'the first attempt hangs still')
    await eventually(() => numbers(target, 'private-hanging').length === 1, 'second attempt of the channel that hangs')
    const [one, two] = target.requests.filter(({ text }) => text.includes('private-hanging'))
    const after = Math.round(two.at - one.at)
    assert.ok(after > ATTEMPT + 1000 - lateBy(EARLY) && after < ATTEMPT + 1000 + lateBy(LATE), `again after ${after} ms`)
    assert.notEqual(one.port, two.port, 'on a connection of its own')
    t.diagnostic(`second attempt after ${after} ms`)
    await target.verified()
  })

  test('an answer without end: the status counts, and the rest is not read', async (t) => {
    const target = await startTarget(t, { answer: huge(1 << 30) })
    const { say } = await talk(t, [{ url: target.url }])
    for (let n = 0; n < 5; n += 1) await say('private-a', n)
    await target.counts(5)
    const taken = target.requests.map(({ answered }) => answered)
    // Mostly what the kernel takes without being asked.
    assert.ok(Math.max(...taken) < 32 << 20, `${taken} bytes`)
    assert.deepEqual(numbers(target, 'private-a'), [0, 1, 2, 3, 4])
    assert.equal(target.requests.length, 5)
  })

  test('TLS: a certificate that nobody trusts is refused, with its root it is not', async (t) => {
    const certificates = makeCertificates()
    t.after(() => certificates.remove())
    const [trusted, untrusted] = [await startTarget(t, { tls: certificates, host: 'localhost' }), await startTarget(t, { tls: certificates, host: 'localhost' })]
    const { say, server, metric } = await talk(t, [{ url: trusted.url, ca: certificates.root }, { url: untrusted.url }])
    await say('private-a', 1)
    await trusted.counts(1)
    await eventually(async () => (await metric('soundpost_webhooks_failed_total')) > 0, 'failed attempt in the metrics')
    assert.deepEqual(untrusted.requests, [])
    await eventually(() => server.said.some((line) => /certificate/i.test(line)), 'line about the certificate in the log')
    await trusted.verified()
  })

  test('refuse_private_addresses: this machine is not asked', async (t) => {
    const [open, closed] = [await startTarget(t), await startTarget(t, { host: 'localhost' })]
    const { say, server, metric } = await talk(t, [{ url: open.url }, { url: closed.url, refuse_private_addresses: true }])
    await say('private-a', 1)
    await open.counts(1)
    await eventually(async () => (await metric('soundpost_webhooks_failed_total')) > 0, 'failed attempt in the metrics')
    assert.deepEqual(closed.requests, [])
    await eventually(() => server.said.some((line) => /private/i.test(line)), 'line about the private address in the log')
  })

  test('a slow target delays neither clients nor other targets', async (t) => {
    const figures = {}
    for (const [what, answer] of [['without it', undefined], ['answering after 2 s', slow(2000)], ['never answering', hanging]]) {
      const healthyOne = await startTarget(t)
      const slowOne = answer && (await startTarget(t, { answer }))
      const targets = [healthyOne, slowOne].filter(Boolean)
      const { ada, connected, server } = await talk(t, targets.map(({ url }) => ({ url })))
      const { channel } = await subscribed(ada, 'private-chat')
      const { inbox } = await subscribed(await connected('ben'), 'private-chat')
      const [delivered, told] = [[], []]
      for (let n = 0; n < 60; n += 1) {
        const began = performance.now()
        channel.trigger('client-n', n)
        await inbox.next(named('client-n'))
        delivered.push(performance.now() - began)
        await eventually(() => healthyOne.requests.length > n, `webhook ${n} at the healthy target`)
        told.push(healthyOne.requests[n].at - began)
      }
      const middle = (list) => list.toSorted((a, b) => a - b)[30]
      figures[what] = { delivered: middle(delivered), told: middle(told) }
      await server.stop()
    }
    const words = Object.entries(figures).map(([what, { delivered, told }]) => `${what}: delivered in ${delivered.toFixed(1)} ms, the healthy target told in ${told.toFixed(1)} ms`)
    t.diagnostic(words.join('; '))
    const { 'without it': base, ...rest } = figures
    // Whoever waited for the slow one would wait for seconds; the machine has not the same time for each of the three.
    for (const [what, { delivered, told }] of Object.entries(rest)) {
      assert.ok(delivered < 3 * base.delivered + 250 && told < 3 * base.told + 250, `${what}: ${words.join('; ')}`)
    }
  })
})

describe('a node that ends', { concurrency: 4 }, () => {
  test('drained, it tells what it has held and what waited for a body', async (t) => {
    const target = await startTarget(t)
    const { ada, server, connected } = await talk(t, [{ url: target.url, events: ['channel_occupied', 'channel_vacated', 'member_removed'], batch_milliseconds: 10_000 }])
    await subscribed(ada, 'presence-room')
    ada.unsubscribe('presence-room')
    await subscribed(await connected('ben'), 'orders')
    const began = performance.now()
    await server.drain()
    const took = performance.now() - began
    assert.ok(took < 3000 + lateBy(FAREWELL), `ended after ${Math.round(took)} ms`)
    for (const word of ['channel_occupied presence-room', 'member_removed presence-room ada', 'channel_vacated presence-room', 'channel_occupied orders']) {
      assert.ok(target.words.includes(word), `${word} is not in ${target.words}`)
    }
    t.diagnostic(`told at the end, ${Math.round(took)} ms after it was asked to: ${target.words.join(', ')}`)
    await target.verified()
  })

  test('drained while the target is away, it ends in time and says how many events it gave up', async (t) => {
    const target = await startTarget(t)
    await target.down()
    const { say, server, metric } = await talk(t, [{ url: target.url }], { server: { drain_seconds: 1 } })
    for (let n = 0; n < 7; n += 1) await say('private-a', n)
    await eventually(async () => (await metric('soundpost_webhooks_queued')) === 7, 'seven events in the queue')
    const began = performance.now()
    await server.drain()
    const took = Math.round(performance.now() - began)
    assert.ok(took < 1000 + FAREWELL + lateBy(LATE), `ended after ${took} ms`)
    assert.match(server.said.join('\n'), /\b7\b.*(events|webhook)|(events|webhook).*\b7\b/)
    await target.up()
  })

  test('killed, it leaves whole requests alone; started again, it goes on with other ids', async (t) => {
    const target = await startTarget(t, { answer: slow(50) })
    const { ada, server } = await talk(t, [{ url: target.url }])
    const { channel } = await subscribed(ada, 'private-chat')
    for (let n = 0; n < 50; n += 1) channel.trigger('client-n', n)
    await eventually(() => target.told.length >= 5, 'five events')
    await server.stop()
    // What it had sent before it died is read to its end, whether it can be answered or not.
    await eventually(async () => (await target.connections()) === 0, 'end of the connections of the dead')
    const before = numbers(target, 'private-chat')
    assert.deepEqual(before, before.map((_, n) => n))
    const { say } = await talk(t, [{ url: target.url }])
    await say('private-chat', 1000)
    await eventually(() => numbers(target, 'private-chat').includes(1000), 'event of the next life')
    assert.deepEqual(numbers(target, 'private-chat').slice(before.length).filter((n) => n < 1000), [])
    assert.equal(new Set(target.told.map(({ id }) => id)).size, target.told.length)
    await target.verified({ brokenMax: 4 })
  })
})

describe('soundpost webhook-test', () => {
  test('sends each webhook a sample and says what came back', async (t) => {
    const [well, failingOne] = [await startTarget(t), await startTarget(t, { answer: refusing(403) })]
    const { server } = await startStage(t, { webhooks: [{ url: well.url }, { url: `${failingOne.url}?token=hush` }] })
    const run = (...words) => promisify(execFile)(BINARY, ['webhook-test', '--host', '127.0.0.1', '--config', `${server.cwd}/soundpost.toml`, ...words], { timeout: 2 * DEADLINE }).then(
      ({ stdout, stderr }) => ({ code: 0, text: stdout + stderr }), ({ code, stdout, stderr }) => ({ code, text: stdout + stderr }),
    )
    const { code, text } = await run('--app', 'soundpost')
    t.diagnostic(text)
    assert.match(text, /200/)
    assert.match(text, /403/)
    assert.doesNotMatch(text, /hush|soundpost-secret/)
    assert.notEqual(code, 0)
    await well.verified()
    assert.equal(well.requests.length, 1)
    const unknown = await run('--app', 'nobody')
    assert.notEqual(unknown.code, 0)
    assert.match(unknown.text, /nobody/)
  })
})
