// What we use of ComfyUI's frontend (1.27 to 1.58).

interface ToastOptions {
  description?: string;
  duration?: number;
  action?: { label: string; onClick: () => void };
}

type Toast = (summary: string, options?: ToastOptions) => unknown;

declare module "*/scripts/app.js" {
  export const app: {
    registerExtension(extension: object): void;
    ui?: { settings?: { addEventListener?(name: string, listener: (event: CustomEvent) => void): void } };
    extensionManager: {
      setting: { get(id: string): unknown };
      toast: {
        add(message: { severity: string; summary: string; detail: string; life: number }): void;
        success?: Toast;
        error?: Toast;
        warning?: Toast;
      };
      sidebarTab?: { activeSidebarTabId: string | null; toggleSidebarTab(id: string): void };
      registerSidebarTab(tab: object): void;
      getSidebarTabs?(): { id: string; icon: string; iconBadge: string | null; tooltip: string }[];
    };
  };
}

declare module "*/scripts/api.js" {
  export const api: {
    fetchApi(path: string, options?: RequestInit): Promise<Response>;
    apiURL(path: string): string;
    addEventListener(name: string, listener: (event: CustomEvent) => void): void;
    removeEventListener(name: string, listener: (event: CustomEvent) => void): void;
  };
}
