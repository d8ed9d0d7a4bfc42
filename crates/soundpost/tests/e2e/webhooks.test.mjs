// What webhooks tell, and of what they say nothing: real clients come, talk and go; a real target hears of it, and the
// SDKs for Node and Python verify each request.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, test } from 'node:test'
import { Crowd } from './crowd.mjs'
import { APP, echoSubscribed, eventually, lateBy, reached, startApplication, subscribed } from './harness.mjs'
import { HOLD, NOT_TOLD, TOLD_WITHIN, configWith, pause, startStage } from './webhook_stage.mjs'
import { failing, inWords, startTarget } from './webhook_target.mjs'

const ROOM = 'presence-room'

/** The one request whose body has the event, asserted to be written like this and nothing else. */
function assertBody(target, event, ...rest) {
  const found = target.requests.filter(({ text }) => text.includes(event))
  assert.equal(found.length, 1, `${event}: ${JSON.stringify(found.map(({ text }) => text))}`)
  assert.deepEqual(rest, [])
  assert.equal(found[0].text, `{"time_ms":${found[0].data.time_ms},"events":[${event}]}`)
}

describe('webhooks', { concurrency: 3 }, () => {
  test('every event, as real clients make it happen', async (t) => {
    const target = await startTarget(t)
    const { connected, echo } = await startStage(t, { settings: { subscription_count: true }, webhooks: [{ url: target.url }] })

    const ada = await connected('ada')
    await subscribed(ada, 'orders')
    const ben = echo('ben')
    await echoSubscribed(ben.channel('orders'))
    const room = await subscribed(ada, ROOM)
    await echoSubscribed(ben.join('room'))
    await subscribed(ada, 'cache-prices')
    room.channel.trigger('client-typing', { on: true, text: 'Zoë "/" \u{1F600}' })
    // Between client events of two connections there is no order.
    await target.hears(`client_event ${ROOM} client-typing`)
    ben.join('room').whisper('said', 'just text')
    await subscribed(ada, 'private-chat')
    ada.channel('private-chat').trigger('client-x', [1.0])
    const socketId = ada.connection.socket_id
    await target.hears('client_event private-chat client-x')
    await target.hears(`client_event ${ROOM} client-said`)

    ben.leave('orders')
    await target.hears('subscription_count orders 1')
    const left = performance.now()
    ada.disconnect()
    // Nor is there one between their ends.
    await target.hears('subscription_count private-chat 0')
    ben.disconnect()
    const arrivals = (name) => [`channel_occupied ${name}`, `subscription_count ${name} 1`]
    const departures = (name) => [`subscription_count ${name} 0`, `channel_vacated ${name}`]
    await target.tells(
      ...arrivals('orders'), 'subscription_count orders 2', 'subscription_count orders 1', ...departures('orders'),
      `channel_occupied ${ROOM}`, `member_added ${ROOM} ada`, `member_added ${ROOM} ben`,
      `client_event ${ROOM} client-typing`, `client_event ${ROOM} client-said`,
      `member_removed ${ROOM} ada`, `member_removed ${ROOM} ben`, `channel_vacated ${ROOM}`,
      'channel_occupied cache-prices', 'cache_miss cache-prices', 'subscription_count cache-prices 1', ...departures('cache-prices'),
      ...arrivals('private-chat'), 'client_event private-chat client-x', ...departures('private-chat'),
    )
    for (const event of [
      '{"name":"channel_occupied","channel":"orders"}', '{"name":"channel_vacated","channel":"orders"}',
      `{"name":"member_added","channel":"${ROOM}","user_id":"ada"}`, `{"name":"member_removed","channel":"${ROOM}","user_id":"ben"}`,
      '{"name":"cache_miss","channel":"cache-prices"}', '{"name":"subscription_count","channel":"orders","subscription_count":2}',
      `{"name":"client_event","channel":"private-chat","event":"client-x","data":"[1]","socket_id":"${socketId}"}`,
      `{"name":"client_event","channel":"${ROOM}","event":"client-typing","data":${JSON.stringify(JSON.stringify({ on: true, text: 'Zoë "/" \u{1F600}' }))},"socket_id":"${socketId}","user_id":"ada"}`,
    ]) assertBody(target, event)
    const said = target.told.find(({ event }) => event === 'client-said')
    assert.deepEqual([said.data, said.user_id], ['just text', 'ben'])

    const gone = target.told.filter(({ name }) => /vacated|removed/.test(name)).map(({ request }) => request.at - left)
    assert.ok(gone.every((after) => after > HOLD - 100 && after < HOLD + lateBy(TOLD_WITHIN)), `told ${gone.map(Math.round)} ms after the end`)
    t.diagnostic(`departures told ${Math.round(Math.min(...gone))} to ${Math.round(Math.max(...gone))} ms after the connections ended`)
    t.diagnostic(`${await target.verified()} requests, each verified by both SDKs: ${target.words.join(', ')}`)
    assert.equal(new Set(target.told.map(({ id }) => id)).size, target.delivered.length, 'ids are unique')
  })

  test('who is back within 3 seconds was never gone; who is not, is, and comes anew', async (t) => {
    const target = await startTarget(t)
    const { connected, metric } = await startStage(t, { webhooks: [{ url: target.url }] })
    const [ada, ben] = [await connected('ada'), await connected('ben')]
    await subscribed(ada, ROOM)
    await subscribed(ben, ROOM)
    await subscribed(ben, 'orders')
    const arrivals = [`channel_occupied ${ROOM}`, `member_added ${ROOM} ada`, `member_added ${ROOM} ben`, 'channel_occupied orders']
    await target.tells(...arrivals)

    // A reload, and somebody who leaves and comes back on one connection; each within the time.
    const away = performance.now()
    ben.disconnect()
    ada.unsubscribe(ROOM)
    await eventually(async () => (await metric('soundpost_connections')) === 1, 'end of the connection')
    ben.connect()
    await reached(ben, 'connected')
    await subscribed(ada, ROOM)
    await eventually(() => ben.channel('orders').subscribed && ben.channel(ROOM).subscribed, 'subscriptions of the reloaded page')
    const gap = Math.round(performance.now() - away)
    assert.ok(gap < HOLD, `the machine took ${gap} ms for it`)
    // Another connection of a user who is there is no news.
    await subscribed(await connected('ben'), ROOM)
    await subscribed(ada, 'last')
    await target.tells(...arrivals, 'channel_occupied last')

    const left = performance.now()
    ada.unsubscribe(ROOM)
    const gone = await target.hears(`member_removed ${ROOM} ada`)
    const after = Math.round(gone.request.at - left)
    assert.ok(after > HOLD - 100 && after < HOLD + lateBy(TOLD_WITHIN), `told after ${after} ms`)
    t.diagnostic(`member_removed told ${after} ms after the end`)
    await subscribed(ada, ROOM)
    await eventually(() => target.words.filter((word) => word === `member_added ${ROOM} ada`).length === 2, `second "member_added ${ROOM} ada"`)
    await target.verified()
  })

  test('several webhooks: each gets the events and channels it wants, with its own headers; apps never mix', async (t) => {
    const SHOP = { appId: 'shop', key: 'shop-key', secret: 'the-secret-of-the-shop' }
    const [everything, members, chats, shop] = await Promise.all([{}, {}, {}, { app: SHOP }].map((options) => startTarget(t, options)))
    const apps = [
      { webhooks: [
        { url: everything.url },
        { url: members.url, events: ['member_added'], headers: { Authorization: 'Bearer 3f8a', 'X-Tenant': '7' } },
        { url: chats.url, filter: { prefix: 'private-', suffix: '.chat' } },
      ] },
      { app: SHOP, webhooks: [{ url: shop.url }] },
    ]
    const { server, connected } = await startStage(t, { apps })
    const ada = await connected('ada')
    for (const name of ['orders', ROOM, 'private-orders', 'private-a.chat', 'a.chat']) await subscribed(ada, name)
    const application = await startApplication(server, {}, SHOP)
    t.after(() => application.stop())
    const customer = await connected('customer', { application, key: SHOP.key })
    await subscribed(customer, ROOM)

    await everything.tells(
      'channel_occupied orders', `channel_occupied ${ROOM}`, `member_added ${ROOM} ada`, 'channel_occupied private-orders',
      'channel_occupied private-a.chat', 'channel_occupied a.chat',
    )
    await members.tells(`member_added ${ROOM} ada`)
    await chats.tells('channel_occupied private-a.chat')
    await shop.tells(`channel_occupied ${ROOM}`, `member_added ${ROOM} customer`)
    for (const target of [everything, members, chats, shop]) await target.verified()
    const [request] = members.requests
    assert.deepEqual([request.headers.authorization, request.headers['x-tenant']], ['Bearer 3f8a', '7'])
    assert.equal(everything.requests[0].headers.authorization, undefined)
    assert.doesNotMatch(server.said.join('\n'), /3f8a|the-secret-of/)
  })

  test('batches: as many as are allowed, no longer than is allowed, and in order', async (t) => {
    const [WAIT, MOST] = [400, 10]
    const [batched, single] = [await startTarget(t), await startTarget(t)]
    const webhooks = [
      { url: batched.url, events: ['client_event'], batch_milliseconds: WAIT, batch_events: MOST }, { url: single.url, events: ['client_event'] },
    ]
    const { connected } = await startStage(t, { settings: { client_events_per_second: 0 }, webhooks })
    const { channel } = await subscribed(await connected('ada'), 'private-chat')
    // A few wait for the time, then many fill their bodies.
    const began = performance.now()
    for (let n = 0; n < 3; n += 1) channel.trigger('client-n', n)
    await batched.counts(3)
    const [first] = batched.requests
    assert.equal(first.events.length, 3)
    const waited = first.at - began
    assert.ok(waited > WAIT - 50 && waited < WAIT + lateBy(TOLD_WITHIN), `waited ${waited} ms`)
    const COUNT = 3 + 4 * MOST + 1
    for (let n = 3; n < COUNT; n += 1) channel.trigger('client-n', n)
    for (const target of [batched, single]) {
      await target.counts(COUNT)
      assert.deepEqual(target.told.map(({ data }) => Number(data)), [...Array(COUNT).keys()])
      await target.verified()
    }
    assert.ok(single.requests.every(({ events }) => events.length === 1))
    const sizes = batched.requests.map(({ events }) => events.length)
    assert.ok(Math.max(...sizes) <= MOST && sizes.length <= 7, `bodies of ${sizes}`)
    t.diagnostic(`bodies of ${sizes} events; the first after ${Math.round(waited)} ms`)
  })

  test('order of each channel, although the target answers when it likes and fails now and then', async (t) => {
    const [CHANNELS, EVENTS] = [5, 30]
    const random = failing(1)
    const answer = (response, request) => {
      const isUnlucky = Number.parseInt(request.header('X-Pusher-Signature').slice(0, 2), 16) < 10
      setTimeout(() => (isUnlucky ? random(response, request) : response.end()), Number.parseInt(request.header('X-Pusher-Signature').slice(-2), 16) / 8)
    }
    const target = await startTarget(t, { answer })
    const webhooks = [{ url: target.url, events: ['client_event'], batch_milliseconds: 20, batch_events: 5 }]
    const { connected } = await startStage(t, { settings: { client_events_per_second: 0 }, webhooks })
    const ada = await connected('ada')
    const names = Array.from({ length: CHANNELS }, (_, n) => `private-${n}`)
    const channels = await Promise.all(names.map((name) => subscribed(ada, name)))
    for (let n = 0; n < EVENTS; n += 1) {
      channels.forEach(({ channel }) => channel.trigger('client-n', n))
      await pause(10)
    }
    await target.counts(CHANNELS * EVENTS)
    for (const name of names) {
      assert.deepEqual(target.told.filter(({ channel }) => channel === name).map(({ data }) => Number(data)), [...Array(EVENTS).keys()], name)
    }
    assert.equal(target.delivered.length, CHANNELS * EVENTS, 'none twice')
    const failed = target.requests.filter(({ status }) => status === 500).length
    t.diagnostic(`${CHANNELS * EVENTS} events in ${target.requests.length} requests, ${failed} of them failed, ${await target.verified()} verified`)
  })

  test('settings that are read again: a webhook more, one less, and no event lost', async (t) => {
    const [first, second] = [await startTarget(t), await startTarget(t)]
    const apps = (...targets) => [{ settings: { client_events_per_second: 0 }, webhooks: targets.map(({ url }) => ({ url, events: ['client_event'] })) }]
    const { server, connected } = await startStage(t, { apps: apps(first) })
    const { channel } = await subscribed(await connected('ada'), 'private-chat')
    let sent = 0
    const talking = setInterval(() => channel.trigger('client-n', (sent += 1)), 10)
    t.after(() => clearInterval(talking))
    const reload = async (config) => {
      const reloads = () => server.said.filter((line) => /settings reloaded/.test(line)).length
      const before = reloads()
      writeFileSync(path.join(server.cwd, 'soundpost.toml'), config)
      server.hangUp()
      await eventually(() => reloads() > before, 'reload')
    }
    await eventually(() => first.told.length > 50, 'fifty events at the first')
    await reload(configWith(apps(first, second)))
    await eventually(() => second.told.length > 50, 'fifty events at the second')
    await reload(configWith(apps(second)))
    const rest = second.told.length
    await eventually(() => second.told.length > rest + 50, 'fifty more at the second')
    clearInterval(talking)
    await eventually(() => second.told.at(-1).data === String(sent), 'last event')
    const numbers = (target) => target.told.map(({ data }) => Number(data))
    const isUnbroken = (list) => list.every((number, at) => number === list[0] + at)
    assert.ok(numbers(first)[0] === 1 && isUnbroken(numbers(first)), `first: ${numbers(first)}`)
    assert.ok(isUnbroken(numbers(second)), `second: ${numbers(second)}`)
    // Each heard of everything while it was there.
    assert.ok(numbers(first).at(-1) >= numbers(second)[0] - 1)
    await first.verified()
    await second.verified()
  })
})

// By itself: it needs the whole machine for a moment, and so would what is beside it.
test('a storm: 500 members reload their pages, and nothing is told', async (t) => {
  const [all, departures] = [await startTarget(t), await startTarget(t)]
  const webhooks = [{ url: all.url, batch_milliseconds: 100 }, { url: departures.url, events: ['channel_vacated', 'member_removed'] }]
  const { server, connected, metric } = await startStage(t, { webhooks })
  const crowd = new Crowd(APP, ROOM, 500)
  t.after(() => crowd.leave())
  await crowd.join(server)
  await all.counts(501)
  const before = all.requests.length
  const began = performance.now()
  const longest = await crowd.reload(() => metric('soundpost_connections'), server)
  const took = Math.round(performance.now() - began)
  assert.ok(longest < HOLD - 200, `the machine took ${longest} ms for a part of them`)
  await pause(NOT_TOLD)
  await subscribed(await connected('ada'), 'last')
  await all.hears('channel_occupied last')
  assert.deepEqual(all.requests.slice(before).flatMap(({ events }) => events.map(inWords)), ['channel_occupied last'])
  assert.deepEqual(departures.requests, [])
  t.diagnostic(`500 left and came back within ${took} ms, each for at most ${Math.round(longest)} ms; webhooks meanwhile: 0`)
  await all.verified()
})
