// `make look`: one dashboard as it is in `window.LOOK`, to be photographed.
import { createRoot } from 'react-dom/client';
import { Dashboard, prepared, ready } from './panels.jsx';

async function draw() {
  await ready();
  createRoot(document.getElementById('root')).render(<Dashboard look={await prepared(window.LOOK)} />);
}

draw().catch((error) => console.error('look:', error.stack));
