// What the tests of webhooks share: a node whose app has webhooks, its application, and clients of all kinds.

import { Clients, APP, configOf, reached, sdk, startApplication, startServer } from './harness.mjs'

/** Longest that a departure is held, milliseconds; and what more it may take until it has been told, on a loaded machine. */
export const HOLD = 3000
export const TOLD_WITHIN = 1500
/** A departure that is not told so long after it will not be. What is told next shows that it was not for want of time. */
export const NOT_TOLD = HOLD + 1500

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** The metrics of a node as `name{labels}` to number. */
async function metricsOf({ said }) {
  const [, url] = said.map((line) => line.match(/(http:\/\/\S+\/metrics)/)).find(Boolean)
  const lines = (await (await fetch(url)).text()).split('\n').filter((line) => line && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

/** A configuration file; `apps`: each with its `settings` and `webhooks`. */
export function configWith(apps, server = {}) {
  const lines = Object.entries({ drain_seconds: 3, ...server }).map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`)
  const tables = apps.map(({ app = APP, settings, webhooks }) => configOf(app, settings, webhooks))
  return `[server]\n${lines.join('')}[admin]\nport = 0\n${tables.join('')}`
}

/** A node with one app, or with `apps`, and what a test needs around it; all of it ends with the test. */
export async function startStage(t, { app = APP, settings, webhooks, apps = [{ app, settings, webhooks }], server: serverSettings } = {}) {
  const server = await startServer({ config: configWith(apps, serverSettings) })
  t.after(() => server.stop())
  const application = await startApplication(server, {}, app)
  t.after(() => application.stop())
  const clients = new Clients()
  t.after(() => clients.close())
  /** A pusher-js client that is connected. */
  const connected = async (user, options) => {
    const client = clients.pusher(server, { application, user, key: app.key, ...options })
    await reached(client, 'connected')
    return client
  }
  /** A Laravel Echo. */
  const echo = (user) => clients.echo(server, { broadcaster: 'reverb', key: app.key, application, user })
  const metric = async (name, labels = '') => {
    const all = [...(await metricsOf(server))].filter(([key]) => key.split('{')[0] === name && key.includes(labels))
    return all.reduce((sum, [, value]) => sum + value, 0)
  }
  return { server, application, clients, connected, echo, metric, metrics: () => metricsOf(server), sdk: sdk(server, app) }
}

