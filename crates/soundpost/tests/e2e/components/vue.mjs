// The page of components.test.mjs in Vue, with every composable of @laravel/echo-vue that talks to the server.

import {
  configureEcho, useConnectionStatus, useEcho, useEchoModel, useEchoNotification, useEchoPresence, useEchoPublic, useSocketId,
} from '@laravel/echo-vue'
import { createApp, h, ref } from 'vue'

const Room = {
  setup() {
    const status = useConnectionStatus()
    const socketId = useSocketId()
    const members = ref([])
    const heard = ref([])
    const hear = (what) => (value) => heard.value.push([what, value])

    useEchoPublic('news', 'Posted', hear('public'))
    useEcho('orders.1', ['Shipped', '.order.paid'], hear('private'))
    useEchoNotification('App.Models.User.1', hear('notification'))
    useEchoModel('App.Models.Order', 7, 'OrderUpdated', hear('model'))
    const room = useEchoPresence('room', 'Said', hear('presence'))
    room
      .channel()
      .here((all) => (members.value = all.map(({ id }) => id)))
      .joining(({ id }) => members.value.push(id))
      .leaving(({ id }) => (members.value = members.value.filter((member) => member !== id)))
      .listenForWhisper('typing', hear('whisper'))

    return () =>
      h('main', {}, [
        h('p', { id: 'status' }, status.value),
        h('p', { id: 'socket-id' }, socketId.value),
        h('p', { id: 'members' }, [...members.value].sort().join(' ')),
        h('ul', { id: 'heard' }, heard.value.map((item) => h('li', {}, JSON.stringify(item)))),
        h('button', { id: 'whisper', onClick: () => room.channel().whisper('typing', { by: 'page' }) }, 'Whisper'),
      ])
  },
}

const App = {
  setup() {
    const isOpen = ref(true)
    const close = () => h('button', { id: 'close', onClick: () => (isOpen.value = false) }, 'Close')
    return () => (isOpen.value ? [h(Room), close()] : 'closed')
  },
}

configureEcho(window.echoOptions)
createApp(App).mount('#app')
