// Passes TCP connections on in WebSocket messages, with the package ws: relay.cjs URL [AUTHORITY] [--text]
// With --text it sends a text message at once.
'use strict';
const fs = require('fs');
const net = require('net');
const WebSocket = require('ws');

const [url, authority] = process.argv.slice(2).filter((argument) => argument !== '--text');
const sendsText = process.argv.includes('--text');
const options = authority ? { ca: fs.readFileSync(authority), servername: 'edge.example.com' } : {};

const server = net.createServer((near) => {
  near.pause();
  // Compression is offered, as is this library's habit as a client.
  const far = new WebSocket(url, 'voltlane.v2', { ...options, perMessageDeflate: true });
  far.on('open', () => {
    console.log(`open ${far.protocol} ${far.extensions || 'none'}`);
    if (sendsText) far.send('text');
    far.ping('are you there?');
    near.on('data', (bytes) => far.send(bytes));
    near.on('end', () => far.close(1000));
    near.resume();
  });
  far.on('message', (bytes) => near.write(bytes));
  far.on('pong', (bytes) => console.log(`pong ${bytes}`));
  far.on('close', (code) => {
    console.log(`closed ${code}`);
    near.end();
  });
  far.on('error', (error) => console.log(`failed ${error.message}`));
  near.on('error', () => far.terminate());
});
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
// The test ends it.
process.stdin.resume().on('end', () => process.exit(0));
