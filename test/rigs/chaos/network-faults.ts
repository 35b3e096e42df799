import type { Post } from './crew.ts';
import type { Draws } from './draws.ts';
import { type Fault, type Faults, last } from './scene.ts';

/** What becomes of the way from one listener to the database. */
export const NETWORK_FAULTS: Faults = [
  [4, ['connections cut', onNetwork((network) => network.cut())]],
  [4, ['connections dead', onNetwork(({ freeze }) => freeze())]],
  [
    3,
    [
      'connections cut mid-word',
      onNetwork((network, draws) => network.cutAfter(draws.integer(1, 4_000))),
    ],
  ],
  [
    3,
    [
      'new connections dead',
      onNetwork((network) => {
        network.freeze();
        network.letThrough(false);
      }),
    ],
  ],
  [
    3,
    [
      'connections refused',
      onNetwork((network) => {
        network.refuse(true);
        network.cut();
      }),
    ],
  ],
  [3, ['a slow network', onNetwork((network, draws) => network.delay(draws.integer(20, 400)))]],
  [
    3,
    [
      'a narrow network',
      onNetwork((network, draws) => network.throttle(draws.integer(2_000, 50_000))),
    ],
  ],
];

function onNetwork(strike: (network: Post['network'], draws: Draws) => void): Fault {
  return async ({ crew }, draws) => {
    const { network } = draws.pick(crew.posts);
    strike(network, draws);
    await last(draws);
    network.heal();
  };
}
