// MQTT.js against the gateway: node mqttjs_client.cjs PORT PROTOCOL [CA], with the library on NODE_PATH. PROTOCOL is
// mqtt, ws or wss.
//
// Says "restart VERSION" when the gateway is to be killed and started again, and goes on when it reads a line. Ends
// with 0 if all was as it should be.

'use strict'

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const readline = require('node:readline')
const mqtt = require('mqtt')

const [port, protocol, caFile] = [Number(process.argv[2]), ...process.argv.slice(3)]
const ca = caFile && fs.readFileSync(caFile)
const BOUND = 30_000
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** A client that keeps what it is sent until it is asked for. */
class Peer {
    static async connect(version, name, { keep = false, will } = {}) {
        const peer = new Peer()
        peer.isFive = version === '5.0'
        peer.inbox = []
        peer.arrived = () => {}
        peer.client = mqtt.connect({
            host: 'localhost',
            port,
            protocol,
            ca,
            family: 4,
            clientId: `${name}-${version}`,
            protocolVersion: peer.isFive ? 5 : 4,
            clean: !keep,
            reconnectPeriod: 0,
            properties: peer.isFive ? { sessionExpiryInterval: keep ? 3600 : 0 } : undefined,
            will,
        })
        // A resumed session's messages come with CONNACK: listen before.
        peer.client.on('message', (topic, payload, packet) => {
            peer.inbox.push({ topic, text: payload.toString(), ...packet })
            peer.arrived()
        })
        const [connack] = await once(peer.client, 'connect', { signal: AbortSignal.timeout(BOUND) })
        peer.sessionPresent = connack.sessionPresent
        return peer
    }

    async subscribe(topic, qos) {
        const [granted] = await this.client.subscribeAsync(topic, { qos })
        assert.equal(granted.qos, qos)
    }

    publish(topic, text, qos, more = {}) {
        return this.client.publishAsync(topic, text, { qos, ...more })
    }

    async expect(topic, text, qos, retain = false) {
        if (this.inbox.length === 0) {
            await new Promise((resolve, reject) => {
                const bound = setTimeout(() => reject(new Error(`${topic} ${text} did not come`)), BOUND)
                this.arrived = () => {
                    clearTimeout(bound)
                    resolve()
                }
            })
        }
        const message = this.inbox.shift()
        const { topic: gotTopic, text: gotText, qos: gotQos, retain: gotRetain } = message
        assert.deepEqual([gotTopic, gotText, gotQos, gotRetain], [topic, text, qos, retain])
        return message
    }

    disconnect() {
        return this.client.endAsync()
    }

    /** Goes without DISCONNECT. */
    vanish() {
        this.client.stream.destroy()
    }
}

async function exchange(version) {
    const both = await Peer.connect(version, 'both')
    for (const qos of [0, 1, 2]) {
        const topic = `${version}/level/${qos}`
        await both.subscribe(topic, qos)
        for (let number = 0; number < 10; number++) await both.publish(topic, `${number} grüße`, qos)
        for (let number = 0; number < 10; number++) await both.expect(topic, `${number} grüße`, qos)
    }
    await both.disconnect()
}

async function retained(version) {
    const topic = `${version}/retained`
    const peer = await Peer.connect(version, 'retained')
    await peer.publish(topic, 'kept', 1, { retain: true })
    await peer.subscribe(topic, 1)
    await peer.expect(topic, 'kept', 1, true)
    await peer.publish(topic, '', 1, { retain: true })
    await peer.expect(topic, '', 1)
    const late = await Peer.connect(version, 'late')
    await late.subscribe(`${version}/#`, 1)
    await late.publish(`${version}/end`, 'cleared', 1)
    await late.expect(`${version}/end`, 'cleared', 1)
    await late.disconnect()
    await peer.disconnect()
}

async function wills(version) {
    const topic = `${version}/will`
    const witness = await Peer.connect(version, 'witness')
    await witness.subscribe(topic, 1)
    const will = (payload) => ({ topic, payload: Buffer.from(payload), qos: 1, retain: false })
    await (await Peer.connect(version, 'polite', { will: will('never') })).disconnect()
    ;(await Peer.connect(version, 'doomed', { will: will('gone') })).vanish()
    await witness.expect(topic, 'gone', 1)
    await witness.disconnect()
}

async function persistence(version) {
    const topic = `${version}/session`
    const first = await Peer.connect(version, 'keeper', { keep: true })
    assert.equal(first.sessionPresent, false)
    await first.subscribe(topic, 2)
    await first.disconnect()
    const publisher = await Peer.connect(version, 'publisher')
    // MQTT.js hands a QoS 2 message over when PUBREL comes, so one of QoS 1 may overtake it, not the other way round.
    const level = (number) => (number < 10 ? 1 : 2)
    for (let number = 0; number < 20; number++) await publisher.publish(topic, `${number}`, level(number))
    await publisher.disconnect()

    console.log(`restart ${version}`)
    assert.equal((await lines.next()).done, false, 'nobody restarted the gateway')

    const back = await Peer.connect(version, 'keeper', { keep: true })
    assert.equal(back.sessionPresent, true)
    for (let number = 0; number < 20; number++) await back.expect(topic, `${number}`, level(number))
    await back.publish(topic, 'live', 2)
    await back.expect(topic, 'live', 2)
    await back.disconnect()
}

async function properties() {
    const peer = await Peer.connect('5.0', 'properties')
    await peer.subscribe('properties', 1)
    const given = {
        userProperties: { unit: ['K', '°C'] },
        contentType: 'text/plain',
        responseTopic: 'answer/here',
        correlationData: Buffer.from([0, 255, 55]),
    }
    await peer.publish('properties', '293', 1, { properties: { ...given, messageExpiryInterval: 600 } })
    const shown = (await peer.expect('properties', '293', 1)).properties
    assert.deepEqual({ ...shown.userProperties }, given.userProperties)
    assert.equal(shown.contentType, given.contentType)
    assert.equal(shown.responseTopic, given.responseTopic)
    assert.deepEqual(shown.correlationData, given.correlationData)
    const left = shown.messageExpiryInterval
    assert.ok(left >= 570 && left <= 600, `${left} seconds left of 600`)
    await peer.disconnect()
}

async function main() {
    for (const version of ['3.1.1', '5.0']) {
        await exchange(version)
        await retained(version)
        await wills(version)
        await persistence(version)
    }
    await properties()
}

main().then(
    () => process.exit(0),
    (error) => {
        console.error(error)
        process.exit(1)
    },
)
