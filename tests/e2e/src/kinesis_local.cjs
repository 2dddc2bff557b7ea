// Loaded before kinesis-local, which would listen on every address of the machine and has no setting for it.
const { Server } = require("node:net");

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, listening) {
  return listen.call(this, port, "127.0.0.1", listening);
};
