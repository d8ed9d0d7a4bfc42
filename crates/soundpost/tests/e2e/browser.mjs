// Headless Chromium as Debian packages it, which asks nothing of any network but the loopback.

import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { DEADLINE } from './harness.mjs'

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

const FLAGS = [
  '--no-sandbox', // tests often run as root, where Chromium's sandbox cannot
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Starts a browser with an empty profile; close it with `close()`. `CHROMIUM` names another binary. */
export async function launchBrowser() {
  const executablePath = process.env.CHROMIUM ?? PLACES.find(existsSync)
  if (executablePath === undefined) throw new Error(`no Chromium at ${PLACES.join(', ')}; set CHROMIUM to its path`)
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS, timeout: 60_000 })
  const newContext = browser.newContext.bind(browser)
  browser.newContext = async (options) => {
    const context = await newContext(options)
    // What a test waits for has a name there, which is to be told before Playwright gives up.
    context.setDefaultTimeout(DEADLINE + 1000)
    return context
  }
  return browser
}
