import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_STREAM } from "../../native/abi/socket.ts";
import {
  decodeSockaddr,
  encodeSockaddr,
  encodeSockaddrInto,
  familyOf,
  formatAddress,
  formatEndpoint,
  parseAddress,
  parseEndpoint,
} from "../../native/address.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { ipv4Bytes, ipv6Bytes, u8, u16 } from "./wire/arbitraries.ts";
import { bytes } from "./wire/captures.ts";

/** Goal: one text per address, strict input, the kernel's own sockaddr. Method: the RFCs' tables, properties. */

const isRangeError = (error: unknown) => error instanceof RangeError;

const parse = suite("address: text to bytes and back");

for (const [text, hex, canonical] of [
  ["0.0.0.0", "00000000", "0.0.0.0"],
  ["192.0.2.7", "c0000207", "192.0.2.7"],
  ["255.255.255.255", "ffffffff", "255.255.255.255"],
  ["::", "00000000000000000000000000000000", "::"],
  ["::1", "00000000000000000000000000000001", "::1"],
  ["1::", "00010000000000000000000000000000", "1::"],
  ["0:0:0:0:0:0:0:1", "00000000000000000000000000000001", "::1"],
  // RFC 5952 section 4.1: leading zeros go.
  ["2001:0db8::0001", "20010db8000000000000000000000001", "2001:db8::1"],
  // 4.2.1: as short as possible.
  ["2001:db8::0:1", "20010db8000000000000000000000001", "2001:db8::1"],
  // 4.2.2: never for one group.
  ["2001:db8::1:1:1:1:1", "20010db8000000010001000100010001", "2001:db8:0:1:1:1:1:1"],
  // 4.2.3: the longest run, the first of equals.
  ["2001:0:0:1:0:0:0:1", "20010000000000010000000000000001", "2001:0:0:1::1"],
  ["2001:db8:0:0:1:0:0:1", "20010db8000000000001000000000001", "2001:db8::1:0:0:1"],
  ["1:2:3:4:5:6:0:0", "00010002000300040005000600000000", "1:2:3:4:5:6::"],
  ["1:2:3:4:5:6:7::", "00010002000300040005000600070000", "1:2:3:4:5:6:7:0"],
  ["::2:3:4:5:6:7:8", "00000002000300040005000600070008", "0:2:3:4:5:6:7:8"],
  // 4.3: lower case.
  ["2001:DB8::ABCD", "20010db800000000000000000000abcd", "2001:db8::abcd"],
  // 5: IPv4-mapped.
  ["::ffff:192.0.2.1", "00000000000000000000ffffc0000201", "::ffff:192.0.2.1"],
  ["::FFFF:c000:0201", "00000000000000000000ffffc0000201", "::ffff:192.0.2.1"],
  ["::192.0.2.1", "000000000000000000000000c0000201", "::c000:201"],
  ["64:ff9b::192.0.2.1", "0064ff9b0000000000000000c0000201", "64:ff9b::c000:201"],
  ["1:2:3:4:5:6:192.0.2.1", "000100020003000400050006c0000201", "1:2:3:4:5:6:c000:201"],
] as const) {
  parse(`given ${text}, then ${canonical}`, () => {
    assert.equal(parseAddress(text), bytes(hex));
    assert.is(formatAddress(bytes(hex)), canonical);
    assert.equal(parseAddress(canonical), bytes(hex));
    assert.is(familyOf(text), hex.length === 8 ? 4 : 6);
  });
}

for (const text of [
  "",
  " ",
  "localhost",
  "1.2.3",
  "1.2.3.4.5",
  "256.0.0.1",
  "01.2.3.4",
  "1.2.3.4 ",
  " 1.2.3.4",
  "1.2.3.-4",
  "0x7f.0.0.1",
  "2130706433",
  "1.2.3.4:80",
  "1.2.3.4/8",
  ":",
  ":::",
  "1::2::3",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "12345::",
  "g::",
  "[::1]",
  "::1%lo",
  "fe80::1%2",
  "::ffff:1.2.3",
  "::ffff:01.2.3.4",
  "1.2.3.4::",
  "::1\n",
]) {
  parse(`given ${JSON.stringify(text)}, then no address`, () => {
    assert.is(parseAddress(text), undefined);
    assert.throws(() => familyOf(text), isRangeError);
  });
}

parse("given any bytes, then text and back gives them", () => {
  const sparse = fc.array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(
      fc.oneof(
        ipv4Bytes,
        ipv6Bytes,
        sparse.map((list) => Uint8Array.from(list)),
      ),
      (address) => {
        assert.equal(parseAddress(formatAddress(address)), address);
      },
    ),
    { numRuns: 1000 },
  );
});

parse("given any IPv6 bytes, then the text is the one the URL standard's serializer writes", () => {
  fc.assert(
    fc.property(ipv6Bytes, (address) => {
      const text = formatAddress(address);
      fc.pre(!text.startsWith("::ffff:"));
      assert.is(new URL(`http://[${text}]/`).hostname, `[${text}]`);
    }),
    { numRuns: 1000 },
  );
});

for (const length of [0, 3, 5, 15, 17]) {
  parse(`given ${length} bytes, then a RangeError`, () => {
    assert.throws(() => formatAddress(new Uint8Array(length)), isRangeError);
  });
}

parse.run();

const endpoint = suite("address: endpoints");

for (const [text, address, port] of [
  ["10.0.0.7:8080", "10.0.0.7", 8080],
  ["[2001:db8::7]:8080", "2001:db8::7", 8080],
  ["0.0.0.0:0", "0.0.0.0", 0],
  ["[::]:65535", "::", 65535],
  ["[::ffff:10.0.0.7]:80", "::ffff:10.0.0.7", 80],
] as const) {
  endpoint(`given ${text}, then it is read and written alike`, () => {
    assert.equal(parseEndpoint(text), { address, port });
    assert.is(formatEndpoint({ address, port }), text);
  });
}

endpoint("given another spelling, then the address becomes canonical", () => {
  assert.equal(parseEndpoint("[2001:DB8:0::7]:1"), { address: "2001:db8::7", port: 1 });
});

for (const text of [
  "",
  "10.0.0.7",
  "10.0.0.7:",
  ":80",
  "10.0.0.7:65536",
  "10.0.0.7:080",
  "10.0.0.7:+80",
  "10.0.0.7:-1",
  "10.0.0.7:8e1",
  "10.0.0.7:80 ",
  "10.0.0.7:80\n",
  "10.0.0.7:80:81",
  "[10.0.0.7]:80",
  "::1:80",
  "2001:db8::7:8080",
  "[::1]",
  "[::1]80",
  "[]:80",
  "[[::1]]:80",
  "[::1%lo]:80",
  "localhost:80",
]) {
  endpoint(`given ${JSON.stringify(text)}, then no endpoint`, () =>
    assert.is(parseEndpoint(text), undefined),
  );
}

endpoint("given any endpoint, then text and back gives it", () => {
  fc.assert(
    fc.property(fc.oneof(ipv4Bytes, ipv6Bytes), u16, (address, port) => {
      const given = { address: formatAddress(address), port };
      assert.equal(parseEndpoint(formatEndpoint(given)), given);
    }),
  );
});

endpoint.run();

const sockaddr = suite("address: sockaddr");

// Family in host order, as every machine this runs on has it (little endian).
for (const [address, port, hex] of [
  ["192.0.2.7", 8080, "0200 1f90 c0000207 0000000000000000"],
  ["2001:db8::7", 443, "0a00 01bb 00000000 20010db8000000000000000000000007 00000000"],
] as const) {
  sockaddr(`given ${address} port ${port}, then the kernel's bytes`, () => {
    assert.equal(encodeSockaddr({ address, port }), bytes(hex));
    assert.equal(decodeSockaddr(bytes(hex)), { address, port });
  });
  sockaddr(`given the sockaddr of ${address} cut at every length, then undefined`, () => {
    const whole = bytes(hex);
    for (let length = 0; length < whole.length; length++) {
      assert.is(decodeSockaddr(whole.slice(0, length)), undefined);
    }
  });
}

sockaddr("given a buffer larger than the sockaddr, then the rest does not matter", () => {
  const buffer = new Uint8Array(128).fill(0xff);
  buffer.set(encodeSockaddr({ address: "192.0.2.7", port: 1 }));
  assert.equal(decodeSockaddr(buffer), { address: "192.0.2.7", port: 1 });
});

for (const address of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) {
  sockaddr(
    `given a real socket bound to ${address}, then the kernel reports the address it was given`,
    () => {
      const domain = familyOf(address) === 4 ? AF_INET : AF_INET6;
      using fd = new Fd(libc.socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const given = encodeSockaddr({ address, port: 0 });
      assert.is(libc.bind(fd.number, given, given.length), 0);
      const reported = new Uint8Array(128);
      const length = Uint32Array.of(reported.length);
      assert.is(libc.getsockname(fd.number, reported, length), 0);
      assert.is(length[0], given.length);
      const bound = decodeSockaddr(reported.subarray(0, length[0]));
      assert.ok(bound && bound.port > 0);
      assert.is(bound.address, address);
      assert.equal(encodeSockaddr(bound), reported.slice(0, length[0]));
    },
  );
}

for (const family of ["0000", "0100", "1000", "0201", "0a0a", "ffff"]) {
  sockaddr(`given family ${family}, then undefined`, () => {
    assert.is(decodeSockaddr(bytes(family + "00".repeat(26))), undefined);
  });
}

sockaddr(
  "given any address and a dirty buffer, then decoding gives it back and no other byte changed",
  () => {
    fc.assert(
      fc.property(fc.oneof(ipv4Bytes, ipv6Bytes), u16, u8, (address, port, dirt) => {
        const out = new Uint8Array(40).fill(dirt);
        const length = encodeSockaddrInto(out, address, port);
        assert.is(length, address.length === 4 ? 16 : 28);
        assert.equal(out.slice(0, length), encodeSockaddr({ address: formatAddress(address), port }));
        assert.equal(decodeSockaddr(out.slice(0, length)), { address: formatAddress(address), port });
        assert.ok(out.every((byte, i) => i < length || byte === dirt));
      }),
    );
  },
);

for (const [name, call] of [
  ["a name", () => encodeSockaddr({ address: "localhost", port: 80 })],
  ["a zone", () => encodeSockaddr({ address: "::1%lo", port: 80 })],
  ["port 65536", () => encodeSockaddr({ address: "::1", port: 65536 })],
  ["port -1", () => encodeSockaddr({ address: "::1", port: -1 })],
  ["port 1.5", () => encodeSockaddr({ address: "127.0.0.1", port: 1.5 })],
  ["5 address bytes", () => encodeSockaddrInto(new Uint8Array(28), new Uint8Array(5), 80)],
  ["27 bytes of room", () => encodeSockaddrInto(new Uint8Array(27), new Uint8Array(16), 80)],
] as const) {
  sockaddr(`given ${name}, then a RangeError`, () => assert.throws(call, isRangeError));
}

sockaddr.run();
