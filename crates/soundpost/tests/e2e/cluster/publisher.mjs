// A publisher with the `pusher` SDK that numbers its events and keeps the answers, and the account of what became of
// them: who should have seen which, who saw what, and in which order.

import { sdk } from '../harness.mjs'

/** Publishes through one node at a time, one event after the other. */
export class Publisher {
  /** `{by, n, channel, began, took, status}`; status 0: no answer. */
  records = []
  #n = 0
  #isOn = false
  #running

  constructor(name, node, app) {
    this.name = name
    this.app = app
    this.use(node)
  }

  /** Publishes through another node from now on. */
  use(node) {
    this.node = node
    this.sdk = sdk(node, { ...this.app, timeout: 5000 })
  }

  /** Publishes the next event, with `more` in it; gives its record. Never rejects for what the server answers. */
  async publish(channel, options, more) {
    const record = { by: this.name, n: (this.#n += 1), channel, began: performance.now(), node: this.node }
    this.records.push(record)
    try {
      const { status } = await this.sdk.trigger(channel, 'numbered', { by: this.name, n: record.n, ...more }, options)
      record.status = status
    } catch (error) {
      record.status = error.status ?? 0
      record.text = error.body ?? error.message
    }
    record.took = performance.now() - record.began
    return record
  }

  /** Publishes on and on until `stop`, to each of the channels in turn, with a break after each. */
  start(channels, { everyMilliseconds = 20 } = {}) {
    this.#isOn = true
    this.#running = (async () => {
      for (let turn = 0; this.#isOn; turn += 1) {
        await this.publish(channels[turn % channels.length])
        await new Promise((resolve) => setTimeout(resolve, everyMilliseconds))
      }
    })()
  }

  async stop() {
    this.#isOn = false
    await this.#running
  }
}

/** An event is with its clients so long after its publisher was answered, at most, milliseconds. */
const ON_ITS_WAY = 500

const nameOf = ({ by, n }) => `${by}-${n}`

/** Pairs of neighbours in `ours` that stand the other way round in `theirs`. */
function reversals(ours, theirs) {
  const places = new Map(ours.map((name, place) => [name, place]))
  const common = theirs.filter((name) => places.has(name)).map((name) => places.get(name))
  return common.filter((place, at) => at > 0 && place < common[at - 1]).length
}

/**
 * What became of all events: `{sent, accepted, lost, duplicated, reversed, strange, excused}`. A seat has to see each
 * accepted event of a channel that was published after it had joined and answered a while before it left, unless `excuses`
 * says that this one may be lost: `(record, seat) => boolean`. `ordered`: all seats see one order.
 */
export function account(publishers, seats, { excuses = () => false, ordered = true } = {}) {
  const records = publishers.flatMap((publisher) => publisher.records)
  const byName = new Map(records.map((record) => [nameOf(record), record]))
  const accepted = records.filter(({ status }) => status === 200)
  const sum = { sent: records.length, accepted: accepted.length, lost: 0, excused: 0, duplicated: 0, reversed: 0, strange: 0, which: [] }
  const orders = new Map()
  for (const seat of seats) {
    for (const log of seat.logs) {
      const seen = log.events.filter(({ event }) => event === 'numbered').map(({ data }) => nameOf(data))
      const distinct = new Set(seen)
      sum.duplicated += seen.length - distinct.size
      sum.strange += seen.filter((name) => byName.get(name)?.channel !== log.name).length
      for (const { name } of publishers) {
        const numbers = seen.map((one) => byName.get(one)).filter((record) => record?.by === name).map(({ n }) => n)
        sum.reversed += numbers.filter((n, at) => at > 0 && n < numbers[at - 1]).length
      }
      for (const other of ordered ? (orders.get(log.name) ?? []) : []) sum.reversed += reversals(other, seen)
      orders.set(log.name, [...(orders.get(log.name) ?? []), seen])
      for (const record of accepted) {
        const until = (log.leftAt ?? Infinity) - ON_ITS_WAY
        const isIn = log.since !== undefined && record.began >= log.since && record.began + record.took <= until
        if (record.channel !== log.name || !isIn || distinct.has(nameOf(record))) continue
        if (excuses(record, seat)) sum.excused += 1
        else {
          sum.lost += 1
          sum.which.push(`${nameOf(record)} at ${seat.user} on ${seat.node.name}`)
        }
      }
    }
  }
  return sum
}
