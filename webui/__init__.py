"""The web interface: what people see of the appliance. Imports `appliance`; nothing imports it."""
