// A small API server of Kubernetes: one node, one pod on it, merge patches, and a token that it asks for. It knows what the
// documentation promises, and no more.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';

/** RFC 7396. */
function merge(target, patch) {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete target[name];
    else if (typeof value === 'object' && !Array.isArray(value)) target[name] = merge({ ...target[name] }, value);
    else target[name] = value;
  }
  return target;
}

export class KubernetesApi {
  /** A pod with these hostPorts, on a node that has this external address. */
  static async start(t, { namespace, pod, node, address, ports }) {
    const self = new this();
    self.token = `t${Math.random()}`;
    self.refuses = 0; // the status that every call is refused with instead
    self.patches = 0;
    self.node = {
      metadata: { name: node, labels: { 'topology.kubernetes.io/zone': 'eu-1a' } },
      status: { addresses: [{ type: 'InternalIP', address: '10.0.0.7' }, { type: 'ExternalIP', address }] },
    };
    self.pod = {
      metadata: { name: pod, namespace, uid: 'uid-1', labels: { app: 'arena' } },
      spec: { nodeName: node, containers: [{ name: 'greenroom', ports: ports.map((port) => ({ containerPort: port, hostPort: port })) }] },
    };
    const served = {
      [`/api/v1/nodes/${node}`]: 'node',
      [`/api/v1/namespaces/${namespace}/pods/${pod}`]: 'pod',
    };
    const server = http.createServer(async (request, response) => {
      let text = '';
      for await (const chunk of request) text += chunk;
      const { code, body } = self.answer(request, served[new URL(request.url, 'http://x').pathname], text);
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    self.url = `http://127.0.0.1:${server.address().port}`;
    return self;
  }

  answer(request, name, text) {
    const no = (code, reason) => ({ code, body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message: reason } });
    if (this.refuses) return no(this.refuses, 'Refused');
    if (request.headers.authorization !== `Bearer ${this.token}`) return no(401, 'Unauthorized');
    if (!name) return no(404, 'NotFound');
    if (request.method === 'GET') return { code: 200, body: this[name] };
    if (request.method !== 'PATCH' || name !== 'pod') return no(403, 'Forbidden');
    if (request.headers['content-type'] !== 'application/merge-patch+json') return no(415, 'UnsupportedMediaType');
    const patch = JSON.parse(text);
    if (patch.metadata.uid !== this.pod.metadata.uid) return no(409, 'Conflict');
    this.patches += 1;
    this.pod = merge({ ...this.pod }, patch);
    return { code: 200, body: this.pod };
  }

  /** What stands on the pod: the busy label, safe-to-evict, the cost. */
  marks() {
    const { labels, annotations = {} } = this.pod.metadata;
    return [
      labels['greenroom.dev/busy'],
      annotations['cluster-autoscaler.kubernetes.io/safe-to-evict'],
      annotations['controller.kubernetes.io/pod-deletion-cost'],
    ].join(' ');
  }

  /** The file that `KUBECONFIG` names. */
  writeConfig(file) {
    return writeFile(file, JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: this.url } }],
      users: [{ name: 'u', user: { token: this.token } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }));
  }
}
