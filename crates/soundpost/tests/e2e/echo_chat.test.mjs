// examples/echo-chat, used by two people in two tabs of a real browser.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { launchBrowser } from './browser.mjs'
import { ROOT, TARGET, startProgram, startServer } from './harness.mjs'

const FOLDER = path.join(ROOT, 'examples/echo-chat')
const SCREENSHOTS = path.join(TARGET, 'e2e')
const LARGE = { width: 1280, height: 800 }

let server
let chat
let browser

before(async () => {
  mkdirSync(SCREENSHOTS, { recursive: true })
  server = await startServer()
  chat = await startProgram(process.execPath, ['server.mjs'], {
    cwd: FOLDER,
    env: { PORT: '0', PUSHER_PORT: String(server.port) },
    found: (line) => line.match(/http:\/\/127\.0\.0\.1:\d+/)?.[0],
  })
  browser = await launchBrowser()
})
after(async () => {
  await browser?.close()
  await chat?.stop()
  await server?.stop()
})

const problems = []

/** Opens the chat as someone new and waits until they are in the lobby. */
async function join(name, options = { viewport: LARGE, colorScheme: 'light' }) {
  const page = await (await browser.newContext(options)).newPage()
  page.on('pageerror', (error) => problems.push(`${name}: ${error}`))
  page.on('console', (line) => line.type() === 'error' && problems.push(`${name}: ${line.text()}`))
  await page.goto(chat.value)
  await page.getByLabel('Your name').fill(name)
  await page.getByRole('button', { name: 'Join the lobby' }).click()
  await page.locator('#status[data-state=connected]').waitFor()
  await page.locator('#count', { hasText: 'here' }).waitFor()
  return page
}

const write = async (page, text) => {
  await page.getByLabel('Message', { exact: true }).pressSequentially(text)
  await page.keyboard.press('Enter')
}
const texts = (page) => page.locator('.message p').allTextContents()
const sees = (page, text) => page.locator('.message p', { hasText: text }).waitFor()

test('two tabs: messages both ways, typing, presence, rooms, and one leaving', async () => {
  const ada = await join('Ada Lovelace')
  const ben = await join('Ben Okri', { viewport: LARGE, colorScheme: 'dark' })
  await ada.locator('.note', { hasText: 'Ben Okri joined' }).waitFor()
  await ada.getByText('2 people here').waitFor()
  await ben.getByText('2 people here').waitFor()
  assert.equal(await ben.locator('#people li').count(), 2)

  await write(ada, 'Morning! Has anyone set the post on the new cello yet?')
  await sees(ben, 'Morning!')
  await write(ben, 'Just now. Two millimetres behind the treble foot.')
  // Two requests under way at once may overtake each other.
  await sees(ada, 'Just now.')
  await write(ben, 'It opened up the whole lower register ☺')
  await sees(ada, 'lower register')
  await write(ada, 'Lovely. I will bring the bow over after lunch, then we can hear it in the hall.')
  for (const page of [ada, ben]) await sees(page, 'bow over')
  const said = ['Morning!', 'Just now.', 'It opened', 'Lovely.']
  for (const page of [ada, ben]) {
    assert.deepEqual((await texts(page)).map((text) => said.find((start) => text.startsWith(start))), said)
  }

  await ben.getByLabel('Message', { exact: true }).pressSequentially('And')
  await ada.getByText('Ben Okri is typing').waitFor()
  await ada.screenshot({ path: path.join(SCREENSHOTS, 'echo-chat.png') })
  await ben.screenshot({ path: path.join(SCREENSHOTS, 'echo-chat-dark.png') })
  await write(ben, ' tea?')
  await sees(ada, 'And tea?')
  await ada.getByText('is typing').waitFor({ state: 'detached' })

  // Another room: ben leaves this one, writes there, and ada sees the mark on it.
  await ben.getByRole('button', { name: 'Workshop' }).click()
  await ada.locator('.note', { hasText: 'Ben Okri left' }).waitFor()
  await ben.getByText('1 person here').waitFor()
  await write(ben, 'Glue is warm')
  await ada.locator('button[data-room="workshop"][data-unread]').waitFor()
  await ada.getByRole('button', { name: 'Workshop' }).click()
  await sees(ada, 'Glue is warm')
  await ben.getByText('2 people here').waitFor()

  const phone = await join('Cléo', { viewport: { width: 390, height: 844 }, colorScheme: 'light' })
  await phone.locator('.message p', { hasText: 'And tea?' }).waitFor()
  await phone.screenshot({ path: path.join(SCREENSHOTS, 'echo-chat-phone.png') })

  await ben.close()
  await ada.getByText('1 person here').waitFor()
  await ada.locator('.note', { hasText: 'Ben Okri left' }).waitFor()
  assert.deepEqual(problems, [])
})

test('the welcome asks for a name before anything else can be used', async () => {
  const page = await (await browser.newContext({ viewport: LARGE })).newPage()
  await page.goto(chat.value)
  await page.getByRole('dialog').waitFor()
  await page.keyboard.press('Escape')
  assert.ok(await page.getByLabel('Your name').isVisible())
  await page.screenshot({ path: path.join(SCREENSHOTS, 'echo-chat-welcome.png') })
})
