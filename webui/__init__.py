"""The web interface: shows what the appliance's control database and repositories hold; decides nothing itself."""
