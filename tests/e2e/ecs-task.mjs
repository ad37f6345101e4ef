// A task of Amazon ECS as its containers see it: the task's metadata, the container agent's protection endpoint, the metadata of the
// EC2 instance, and in bridge mode the instance's ports, which lead to the container's. It knows what AWS documents, and no more.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

const ARN = 'arn:aws:ecs:us-west-2:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c';
export const TASK = ARN.split('/').at(-1);
export const THROTTLED = {
  requestID: '12345-abc-6789-0123-abc',
  error: { Arn: ARN, Code: 'ThrottlingException', Message: 'Rate exceeded' },
};

const listening = async (t, server, port, at) => {
  server.listen(port, at);
  await once(server, 'listening');
  return server.address().port;
};

export class EcsTask {
  /** Behind an instance with this address, whose `hostPorts` lead to the same number of `containerPorts`. */
  static async bridged(t, { address, hostPorts, containerPorts }) {
    const self = new this();
    const port = (container, i) => ({ ContainerPort: container, Protocol: 'tcp', HostPort: hostPorts[i], HostIp: '0.0.0.0' });
    self.container = { Ports: containerPorts.map(port), Networks: [{ NetworkMode: 'bridge', IPv4Addresses: ['172.17.0.2'] }] };
    self.instance = { 'public-ipv4': address, 'local-ipv4': '10.0.0.7' };
    for (const [i, hostPort] of hostPorts.entries()) {
      const pipes = new Set();
      const server = net.createServer((from) => {
        const to = net.connect(containerPorts[i], address);
        for (const [one, other] of [[from, to], [to, from]]) {
          pipes.add(one);
          one.on('error', () => other.destroy()).on('close', () => pipes.delete(one));
          one.pipe(other);
        }
      });
      await listening(t, server, hostPort, address);
      t.after(() => {
        server.close();
        for (const pipe of pipes) pipe.destroy();
      });
    }
    return self.serve(t, 'EC2');
  }

  /** On Fargate: an interface of its own, and no instance that could be asked. */
  static async onFargate(t, address) {
    const self = new this();
    self.container = { Networks: [{ NetworkMode: 'awsvpc', IPv4Addresses: [address] }] };
    return self.serve(t, 'FARGATE');
  }

  async serve(t, launchType) {
    this.protected = false;
    this.puts = []; // every change: when it was answered, and whether the task is protected since
    this.refuses = undefined; // what the protection endpoint answers instead; 'dead': it hangs up
    this.task = { Cluster: 'default', TaskARN: ARN, Family: 'arena', Revision: '26', AvailabilityZone: 'us-west-2d', LaunchType: launchType, Containers: [] };
    this.container.Name = 'greenroom';
    const server = http.createServer(async (request, response) => {
      let text = '';
      for await (const chunk of request) text += chunk;
      const answer = this.answer(request, text);
      if (!answer) return request.socket.destroy();
      const [code, body] = answer;
      return response.writeHead(code).end(typeof body === 'string' ? body : JSON.stringify(body));
    });
    const url = `http://127.0.0.1:${await listening(t, server, 0, '127.0.0.1')}`;
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    this.env = { ECS_CONTAINER_METADATA_URI_V4: `${url}/v4/abc`, ECS_AGENT_URI: `${url}/api/abc`, AWS_EC2_METADATA_SERVICE_ENDPOINT: url };
    return this;
  }

  answer({ method, url, headers }, text) {
    const asked = `${method} ${url}`;
    if (asked === 'GET /v4/abc/task') return [200, this.task];
    if (asked === 'GET /v4/abc') return [200, this.container];
    if (asked === 'PUT /api/abc/task-protection/v1/state') return this.protect(JSON.parse(text));
    if (!this.instance) return [404, '404 page not found'];
    if (asked === 'PUT /latest/api/token') return headers['x-aws-ec2-metadata-token-ttl-seconds'] ? [200, 'token=='] : [400, ''];
    if (headers['x-aws-ec2-metadata-token'] !== 'token==') return [401, ''];
    const found = this.instance[url.replace('/latest/meta-data/', '')];
    return found ? [200, found] : [404, ''];
  }

  protect({ ProtectionEnabled: enabled, ExpiresInMinutes: minutes }) {
    if (this.refuses === 'dead') return undefined;
    if (this.refuses) return [400, this.refuses];
    if (enabled && !(minutes >= 1 && minutes <= 2880)) return [400, { error: { Arn: ARN, Code: 'InvalidParameterException', Message: 'expiresInMinutes' } }];
    this.protected = enabled;
    this.puts.push({ at: performance.now(), enabled });
    return [200, { protection: { ExpirationDate: enabled ? '2022-10-06T02:29:16Z' : null, ProtectionEnabled: enabled, TaskArn: ARN } }];
  }
}
